#include "host/data/download.h"

#include <mutex>
#include <numeric>

#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/loopback.h"

using namespace mnist;
using namespace mnist::test;

namespace {

Bytes good_file() {
  Bytes file(300000);
  uint32_t state = 1;
  for (uint8_t& byte : file)
    byte = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  return file;
}

// Downloads "data.gz", which must be `good`, and keeps what happened on the way.
struct Attempt {
  Bytes good = good_file();
  std::vector<std::string> messages;
  int64_t most_seen = 0;
  Failure failure;
  Bytes bytes;

  void run(const std::vector<std::string>& mirrors, int64_t cancel_at = -1,
           long stall_seconds = 20) {
    Download wanted;
    wanted.file = "data.gz";
    wanted.mirrors = mirrors;
    wanted.max_bytes = static_cast<int64_t>(good.size());
    wanted.connect_seconds = 5;
    wanted.stall_seconds = stall_seconds;
    const auto accept = [&](std::span<const uint8_t> sent) {
      if (!std::equal(sent.begin(), sent.end(), good.begin(), good.end()))
        throw Error(ExitCode::kBadInput, "wrong contents of " + std::to_string(sent.size()));
    };
    const auto progress = [&](const std::string& file, int64_t done, int64_t total) {
      REQUIRE(file == "data.gz");
      REQUIRE(total == static_cast<int64_t>(good.size()));
      REQUIRE(done <= total);
      most_seen = std::max(most_seen, done);
      return cancel_at < 0 || done < cancel_at;
    };
    failure = failure_of([&] {
      bytes = download(
          wanted, accept, [&](const std::string& text) { messages.push_back(text); }, progress);
    });
  }
  bool succeeded() const { return failure.code == ExitCode::kOk && bytes == good; }
};

LoopbackServer::Handler always(const WebAnswer& answer) {
  return [answer](const WebRequest&) { return answer; };
}
LoopbackServer::Handler file_server() {
  return [](const WebRequest& request) { return serve_file(request, good_file()); };
}
WebAnswer with_status(int status) {
  WebAnswer answer;
  answer.status = status;
  answer.body = text_bytes("<html>not today</html>");
  return answer;
}

}  // namespace

TEST_CASE("download: a good mirror is enough") {
  LoopbackServer good(file_server()), unused(file_server());
  Attempt attempt;
  attempt.run({good.url(), unused.url()});
  CHECK(attempt.succeeded());
  CHECK(attempt.messages.empty());
  CHECK(attempt.most_seen == static_cast<int64_t>(attempt.good.size()));
  REQUIRE(good.requests().size() == 1);
  CHECK(good.requests()[0].path == "/data.gz");
  CHECK(good.requests()[0].user_agent == "cuda-mnist");
  CHECK(unused.requests().empty());
}

TEST_CASE("download: a mirror that fails is named and the next one asked") {
  WebAnswer html;
  html.body = text_bytes("<html>log in to the hotel's network</html>");
  WebAnswer shorter;
  shorter.body = good_file();
  shorter.body.resize(1000);
  WebAnswer longer;
  longer.body = good_file() + Bytes{1};
  WebAnswer endless = longer;
  endless.with_length = false;
  WebAnswer poisoned;
  poisoned.body = good_file();
  poisoned.body[77777] ^= 1;
  WebAnswer empty;
  WebAnswer to_file = with_status(302), to_http = to_file, in_circles = to_file;
  to_file.headers = "Location: file:///etc/hostname\r\n";
  to_http.headers = "Location: http://127.0.0.1:1/data.gz\r\n";
  in_circles.headers = "Location: data.gz\r\n";
  const std::pair<WebAnswer, std::string> cases[] = {{with_status(403), "403"},
                                                     {with_status(404), "404"},
                                                     {with_status(503), "503"},
                                                     {html, "wrong contents of 42"},
                                                     {shorter, "wrong contents of 1000"},
                                                     {longer, "sends more than the 300000 bytes"},
                                                     {endless, "sends more than the 300000 bytes"},
                                                     {poisoned, "wrong contents of 300000"},
                                                     {empty, "wrong contents of 0"},
                                                     {to_file, "not supported"},
                                                     {to_http, "not supported"},
                                                     {in_circles, "not supported"}};
  for (const auto& [answer, reason] : cases) {
    LoopbackServer bad(always(answer)), good(file_server());
    Attempt attempt;
    attempt.run({bad.url(), good.url()});
    INFO(reason);
    CHECK(attempt.succeeded());
    REQUIRE(attempt.messages.size() == 1);
    INFO(attempt.messages[0]);
    CHECK(contains(attempt.messages[0], "mirror failed: " + bad.url() + "data.gz: "));
    CHECK(contains(attempt.messages[0], reason));
    CHECK(bad.requests().size() == 1);
    REQUIRE(good.requests().size() == 1);
    CHECK(good.requests()[0].range_start == -1);
  }
}

TEST_CASE("download: what a broken connection left is continued at the next mirror") {
  LoopbackServer cut([](const WebRequest& request) {
    WebAnswer answer = serve_file(request, good_file());
    answer.cut_after = 100000;
    return answer;
  });
  LoopbackServer good(file_server());
  Attempt attempt;
  attempt.run({cut.url(), good.url()});
  CHECK(attempt.succeeded());
  REQUIRE(attempt.messages.size() == 1);
  REQUIRE(good.requests().size() == 1);
  CHECK(good.requests()[0].range_start == 100000);
}

TEST_CASE("download: a connection may break at any byte") {
  for (const int64_t cut_after : {0, 1, 2, 16384, 299998, 299999, 300000}) {
    LoopbackServer cut([&](const WebRequest& request) {
      WebAnswer answer = serve_file(request, good_file());
      answer.cut_after = cut_after;
      answer.with_length = cut_after != 300000;
      return answer;
    });
    LoopbackServer good(file_server());
    Attempt attempt;
    attempt.run({cut.url(), good.url()});
    INFO("after byte " << cut_after);
    CHECK(attempt.succeeded());
    CHECK(good.requests().size() <= 2);
  }
}

TEST_CASE("download: three mirrors each bring a part") {
  const auto part = [](int64_t size) {
    return [size](const WebRequest& request) {
      WebAnswer answer = serve_file(request, good_file());
      answer.cut_after = size;
      return answer;
    };
  };
  LoopbackServer first(part(50000)), refusing(always(with_status(503))), second(part(70000)),
      third(file_server());
  Attempt attempt;
  attempt.run({first.url(), refusing.url(), second.url(), third.url()});
  CHECK(attempt.succeeded());
  REQUIRE(third.requests().size() == 1);
  CHECK(third.requests()[0].range_start == 120000);
}

TEST_CASE("download: a mirror without ranges starts from the first byte") {
  LoopbackServer cut([](const WebRequest& request) {
    WebAnswer answer = serve_file(request, good_file());
    answer.cut_after = 1000;
    return answer;
  });
  LoopbackServer whole([](const WebRequest&) { return serve_file({}, good_file()); });
  Attempt attempt;
  attempt.run({cut.url(), whole.url()});
  CHECK(attempt.succeeded());
  REQUIRE(whole.requests().size() == 2);
  CHECK(whole.requests()[1].range_start == -1);
}

TEST_CASE("download: a poisoned beginning does not spoil a good mirror") {
  LoopbackServer poisoned([](const WebRequest& request) {
    WebAnswer answer = serve_file(request, Bytes(300000, 0x55));
    answer.cut_after = 150000;
    return answer;
  });
  LoopbackServer good(file_server());
  Attempt attempt;
  attempt.run({poisoned.url(), good.url()});
  CHECK(attempt.succeeded());
  REQUIRE(good.requests().size() == 2);
  CHECK(good.requests()[0].range_start == 150000);
  CHECK(good.requests()[1].range_start == -1);
}

TEST_CASE("download: a mirror that falls silent is given up") {
  LoopbackServer silent([](const WebRequest& request) {
    WebAnswer answer = serve_file(request, good_file());
    answer.silent_ms = 20000;
    return answer;
  });
  LoopbackServer good(file_server());
  Attempt attempt;
  attempt.run({silent.url(), good.url()}, -1, 1);
  CHECK(attempt.succeeded());
  REQUIRE(good.requests().size() == 1);
  CHECK(good.requests()[0].range_start == -1);
}

TEST_CASE("download: all mirrors fail") {
  LoopbackServer missing(always(with_status(404)));
  Attempt attempt;
  attempt.run({missing.url(), "http://127.0.0.1:1/"});
  CHECK(attempt.failure.code == ExitCode::kUnavailable);
  CHECK(contains(attempt.failure.text, "data.gz could not be fetched from any of 2 mirrors"));
  CHECK(contains(attempt.failure.text, "127.0.0.1:1"));
  CHECK(attempt.messages.size() == 2);
}

TEST_CASE("download: can be cancelled, and a failing progress function is not lost") {
  LoopbackServer good(file_server()), unused(file_server());
  Attempt attempt;
  attempt.run({good.url(), unused.url()}, 1);
  CHECK(attempt.failure.code == ExitCode::kInterrupted);
  CHECK(unused.requests().empty());

  Download wanted;
  wanted.file = "data.gz";
  wanted.mirrors = {good.url()};
  wanted.max_bytes = 300000;
  const auto fail = [](const std::string&, int64_t, int64_t) -> bool {
    throw std::length_error("x");
  };
  CHECK_THROWS_AS(download(
                      wanted, [](auto) {}, nullptr, fail),
                  std::length_error);
}

TEST_CASE("download: an error other than bad contents is not taken for the mirror's") {
  LoopbackServer good(file_server());
  Download wanted;
  wanted.file = "data.gz";
  wanted.mirrors = {good.url(), good.url()};
  wanted.max_bytes = 300000;
  const auto accept = [](auto) { throw Error(ExitCode::kInternal, "no memory"); };
  CHECK(failure_of([&] { download(wanted, accept, nullptr, nullptr); }).code ==
        ExitCode::kInternal);
  CHECK(good.requests().size() == 1);
}

TEST_CASE("download: only HTTPS, or HTTP to this machine") {
  for (const char* mirror :
       {"http://example.org/", "ftp://127.0.0.1/", "file:///tmp/", "127.0.0.1/",
        "http://127.0.0.1@example.org/", "http://127.0.0.1.example.org/", "", "%"}) {
    INFO(mirror);
    Attempt attempt;
    attempt.run({mirror});
    CHECK(attempt.failure.code == ExitCode::kUsage);
    if (mirror[0] == '\0') continue;
    const Environment environment("CUDA_MNIST_MIRRORS", mirror);
    const Failure failure = failure_of([] { choose_mirrors({}); });
    CHECK(failure.code == ExitCode::kUsage);
    CHECK(contains(failure.text, "CUDA_MNIST_MIRRORS"));
  }
}

TEST_CASE("download: CUDA_MNIST_MIRRORS replaces the known mirrors") {
  using Mirrors = std::vector<std::string>;
  const Mirrors known{"https://example.org/"};
  {
    const Environment environment("CUDA_MNIST_MIRRORS", nullptr);
    CHECK(choose_mirrors(known) == known);
  }
  const Environment environment("CUDA_MNIST_MIRRORS", " https://a/  http://[::1]:8/b ");
  CHECK(choose_mirrors(known) == Mirrors{"https://a/", "http://[::1]:8/b"});
}
