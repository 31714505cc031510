#include "host/serve/server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <semaphore>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "host/error.h"
#include "host/os/file_bytes.h"
#include "host/recognition/reading_json.h"
#include "host/serve/connection.h"
#include "host/serve/page.h"
#include "host/serve/reading_desk.h"
#include "host/serve/request_rules.h"

namespace mnist {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;
using httplib::Request, httplib::Response;
using Handled = httplib::Server::HandlerResponse;

constexpr int kMaxConnections = 64;        // each has a thread; more wait to be accepted
constexpr int kMaxPicturesAtOnce = 2;      // each has a process
constexpr int kMaxLargePictures = 4;       // in memory
constexpr size_t kLargePicture = 1 << 20;  // bytes; a drawing has far fewer
constexpr size_t kMaxReportBytes = 64'000'000;
constexpr auto kPatience = 5s;  // of a picture that waits for its turn

constexpr const char* kReadPath = "/api/read";
constexpr const char* kAboutPath = "/api/about";
constexpr const char* kReportPath = "/report";

// A report is a file of its own, with its styles and pictures within, and runs nothing.
constexpr const char* kReportPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox";

const httplib::Headers kHeaders = {
    {"Accept-Ranges", "none"},
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"Cross-Origin-Embedder-Policy", "require-corp"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Permissions-Policy", "camera=(), geolocation=(), microphone=(), usb=()"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
};

struct Answer {
  int status;
  Json json;
};

// One of a number of places, while it exists.
template <ptrdiff_t kPlaces>
class Place {
 public:
  Place(std::counting_semaphore<kPlaces>& places, std::chrono::seconds patience)
      : places_(places), taken_(places.try_acquire_for(patience)) {}
  ~Place() {
    if (taken_) places_.release();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  explicit operator bool() const { return taken_; }

 private:
  std::counting_semaphore<kPlaces>& places_;
  bool taken_;
};

void answer(Response& response, int status, const Json& json) {
  response.status = status;
  response.set_content(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n",
                       "application/json");
}

void refuse(Response& response, const Refusal& refusal) {
  answer(response, refusal.status, {{"error", refusal.error}});
}

// What the library itself refuses has no text yet.
std::string words_for(int status) {
  switch (status) {
    case 400:
      return "The request is malformed, too long, or did not come to its end in time.";
    case 414:
      return "The address is too long.";
    case 416:
      return "Ask for the whole of it, without a Range.";
    default:
      return "This request is not understood.";
  }
}

int status_of(const Error& error) {
  return error.code() == ExitCode::kBadInput ? 400 : 500;
}

// Of the parameters of a request; nothing if one has an unknown value.
std::optional<FindOptions> find_options(const Request& request) {
  static const std::map<std::string, Ink> kInks = {
      {"auto", Ink::kAuto}, {"yes", Ink::kLight}, {"no", Ink::kDark}};
  FindOptions options;
  for (const auto& [name, value] : request.params) {
    const auto ink = kInks.find(value);
    if (name == "invert" && ink != kInks.end()) {
      options.ink = ink->second;
    } else if (name == "single" && (value == "0" || value == "1")) {
      options.single = value == "1";
    } else {
      return std::nullopt;
    }
  }
  return options;
}

Json page_json(const PictureReading& reading) {
  Json json = reading_json(reading);
  json["width"] = reading.width;
  json["height"] = reading.height;
  for (size_t i = 0; i < reading.digits.size(); ++i)
    json["digits"][i]["image"] = reading.digits[i].image;
  return json;
}

const PageFile* page_file(std::string_view path) {
  for (const PageFile& file : page_files())
    if (file.path == path) return &file;
  return nullptr;
}

// A page in place of a report that is not there.
std::string no_report(const std::string& why) {
  return fmt::format(R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>No report</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main class="notice">
<h1>No report</h1>
<p>{}</p>
<p><a href="/">Back to the drawing</a></p>
</main>
</body>
</html>
)",
                     why);
}

std::string escaped(std::string_view text) {
  std::string html;
  for (const char c : text) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

}  // namespace

class Server::Http final : public httplib::Server {
 public:
  Http(Recognizer& recognizer, ServeOptions options);

  std::string url() const { return "http://" + authority(options_.host, port_) + "/"; }
  bool run(const std::function<bool()>& stop);

 private:
  // A thread for each connection, and no more of them than allowed.
  class Threads final : public httplib::TaskQueue {
   public:
    explicit Threads(Http& http) : http_(http) {}
    void enqueue(std::function<void()> serve) override;
    void on_idle() override {
      if (http_.stopping_) http_.stop();
    }
    void shutdown() override {}

   private:
    Http& http_;
  };

  void bind();
  bool process_and_close_socket(socket_t socket) override;
  std::optional<Refusal> refusal(const Request& request, Response& response) const;
  Handled route(const Request& request, Response& response);
  void send_report(Response& response) const;
  Json about() const;
  void read_picture(const Request& request, Response& response,
                    const httplib::ContentReader& receive);
  Answer reading(const std::string& file, const FindOptions& options);

  const ServeOptions options_;
  const std::string device_;
  ReadingDesk desk_;
  int port_ = 0;
  std::optional<RequestRules> rules_;
  std::counting_semaphore<kMaxPicturesAtOnce> pictures_{kMaxPicturesAtOnce};
  std::counting_semaphore<kMaxLargePictures> large_pictures_{kMaxLargePictures};

  std::atomic<bool> stopping_ = false;
  std::atomic<bool> listening_ = true;
  std::mutex mutex_;  // of what follows
  std::condition_variable one_ended_;
  int threads_ = 0;
  std::set<socket_t> sockets_;
};

Server::Http::Http(Recognizer& recognizer, ServeOptions options)
    : options_(std::move(options)), device_(recognizer.device().name), desk_(recognizer) {
  set_default_headers(kHeaders);
  set_payload_max_length(kMaxPictureBytes);
  set_tcp_nodelay(true);
  set_idle_interval(100ms);
  // The library's default lets a second server have the same port.
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  new_task_queue = [this] { return new Threads(*this); };

  // All but the upload is answered before the library reads a body or matches a pattern.
  set_pre_routing_handler(
      [this](const Request& request, Response& response) { return route(request, response); });
  set_expect_100_continue_handler([this](const Request& request, Response& response) {
    const auto refused = refusal(request, response);
    if (!refused) return 100;
    refuse(response, *refused);
    return refused->status;
  });
  Post(kReadPath,
       [this](const Request& request, Response& response, const httplib::ContentReader& receive) {
         read_picture(request, response, receive);
       });
  set_error_handler(HandlerWithResponse([](const Request& /*request*/, Response& response) {
    if (response.body.empty()) refuse(response, {response.status, words_for(response.status)});
    return Handled::Unhandled;
  }));
  // The library sets a length on some ways only.
  set_post_routing_handler([](const Request& /*request*/, Response& response) {
    response.headers.erase("Content-Length");
    response.set_header("Content-Length", std::to_string(response.body.size()));
  });
  set_exception_handler([](const Request& /*request*/, Response& response, std::exception_ptr) {
    refuse(response, {500, "The server failed at this request."});
  });
  bind();
}

void Server::Http::bind() {
  errno = 0;
  port_ = options_.port;
  const bool bound = port_ > 0 ? bind_to_port(options_.host, port_)
                               : (port_ = bind_to_any_port(options_.host)) > 0;
  if (!bound)
    throw Error(ExitCode::kUnavailable,
                fmt::format("cannot listen on {}: {}. Is the port taken by another program, or the "
                            "address not one of this machine's? --port and --host choose others.",
                            authority(options_.host, options_.port),
                            errno != 0 ? std::generic_category().message(errno) : "no such host"));
  ::listen(svr_sock_, kMaxConnections);  // the library's queue holds five
  rules_.emplace(options_.host, port_);
}

bool Server::Http::run(const std::function<bool()>& stop) {
  std::thread listener([this] {
    listen_after_bind();
    listening_ = false;
  });
  desk_.work([&] { return stop() || !listening_; });
  stopping_ = true;
  {
    const std::lock_guard lock(mutex_);
    for (const socket_t socket : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  one_ended_.notify_all();
  listener.join();
  if (!stop()) throw Error(ExitCode::kUnavailable, "the system has closed the server's port");
  std::unique_lock lock(mutex_);
  return one_ended_.wait_for(lock, 1s, [&] { return threads_ == 0; });
}

void Server::Http::Threads::enqueue(std::function<void()> serve) {
  {
    std::unique_lock lock(http_.mutex_);
    http_.one_ended_.wait(lock,
                          [&] { return http_.threads_ < kMaxConnections || http_.stopping_; });
    ++http_.threads_;
  }
  const auto run = [&http = http_, serve = std::move(serve)] {
    serve();
    const std::lock_guard lock(http.mutex_);
    --http.threads_;
    http.one_ended_.notify_all();
  };
  try {
    std::thread(run).detach();
  } catch (const std::system_error&) {
    run();  // the system has no thread to spare: one after the other
  }
  on_idle();
}

// One request per connection: what a refused request leaves unread never passes for the next one.
bool Server::Http::process_and_close_socket(socket_t socket) {
  Connection connection(socket);
  {
    const std::lock_guard lock(mutex_);
    sockets_.insert(socket);
    if (stopping_) ::shutdown(socket, SHUT_RDWR);
  }
  try {
    bool closed = false;
    process_request(connection, true, closed, [&](Request& request) {
      // What the library would do with these is slow at best.
      request.ranges.clear();
      request.headers.erase("Range");
      request.headers.erase("Accept-Encoding");
      connection.expect_body(kMaxPictureBytes);
    });
    connection.finish();
  } catch (const std::exception&) {  // out of memory: this client gets no answer
  }
  const std::lock_guard lock(mutex_);
  sockets_.erase(socket);
  return true;
}

std::optional<Refusal> Server::Http::refusal(const Request& request, Response& response) const {
  if (auto refused = rules_->refuse_host(request)) return refused;
  const bool upload = request.path == kReadPath;
  if (!upload && request.path != kAboutPath && request.path != kReportPath &&
      page_file(request.path) == nullptr)
    return Refusal{404, "There is nothing at this address."};
  if (upload ? request.method != "POST" : request.method != "GET" && request.method != "HEAD") {
    response.set_header("Allow", upload ? "POST" : "GET, HEAD");
    return Refusal{405, "This address does not answer to that method."};
  }
  if (!upload) return std::nullopt;
  if (!find_options(request))
    return Refusal{400, "The options are invert=auto|yes|no and single=0|1."};
  return RequestRules::refuse_upload(request, kMaxPictureBytes);
}

Handled Server::Http::route(const Request& request, Response& response) {
  if (const auto refused = refusal(request, response)) {
    refuse(response, *refused);
  } else if (request.path == kReadPath) {
    return Handled::Unhandled;
  } else if (request.path == kAboutPath) {
    answer(response, 200, about());
  } else if (request.path == kReportPath) {
    send_report(response);
  } else {
    const PageFile* file = page_file(request.path);
    response.set_content(file->content.data(), file->content.size(), std::string(file->type));
  }
  return Handled::Handled;
}

Json Server::Http::about() const {
  return {{"model", options_.model}, {"device", device_}, {"report", !options_.report.empty()}};
}

void Server::Http::send_report(Response& response) const {
  std::string why =
      "The server was started without one: <code>cuda-mnist serve --report "
      "report.html</code> shows what <code>cuda-mnist report</code> or "
      "<code>cuda-mnist train --report report.html</code> writes.";
  if (!options_.report.empty()) {
    try {
      const std::vector<uint8_t> file = read_file_bytes(options_.report, kMaxReportBytes);
      response.set_content(reinterpret_cast<const char*>(file.data()), file.size(),
                           "text/html; charset=utf-8");
      response.headers.erase("Content-Security-Policy");
      response.set_header("Content-Security-Policy", kReportPolicy);
      return;
    } catch (const Error& error) {
      why = fmt::format(
          "{}. <code>cuda-mnist report</code> and <code>cuda-mnist train "
          "--report</code> write it; then load this page again.",
          escaped(error.what()));
    }
  }
  response.status = 404;
  response.set_content(no_report(why), "text/html; charset=utf-8");
}

void Server::Http::read_picture(const Request& request, Response& response,
                                const httplib::ContentReader& receive) {
  const auto size = request.get_header_value<uint64_t>("Content-Length");
  std::optional<Place<kMaxLargePictures>> place;
  if (size > kLargePicture && !place.emplace(large_pictures_, 0s))
    return refuse(response, {503, "Other large pictures are being read; try again in a moment."});

  std::string file;
  file.reserve(size);
  const bool complete = receive([&](const char* bytes, size_t count) {
    file.append(bytes, count);
    return true;
  });
  if (!complete) return;  // the library has set the status
  const auto [status, json] = reading(file, *find_options(request));
  answer(response, status, json);
}

Answer Server::Http::reading(const std::string& file, const FindOptions& options) {
  const auto failure = [](int status, const std::string& error) {
    return Answer{status, {{"error", error}}};
  };
  try {
    PictureDigits digits;
    {
      const Place place(pictures_, kPatience);
      if (!place) return failure(503, "Other pictures are being read; try again in a moment.");
      digits = find_picture_digits({reinterpret_cast<const uint8_t*>(file.data()), file.size()},
                                   options);
    }
    return {200, page_json(desk_.read(std::move(digits)))};
  } catch (const Error& error) {
    return failure(status_of(error), error.what());
  } catch (const std::future_error&) {
    return failure(503, "The server is stopping.");
  }
}

Server::Server(Recognizer& recognizer, ServeOptions options)
    : http_(std::make_unique<Http>(recognizer, std::move(options))) {}
Server::~Server() = default;

std::string Server::url() const {
  return http_->url();
}

bool Server::run(const std::function<bool()>& stop) {
  return http_->run(stop);
}

}  // namespace mnist
