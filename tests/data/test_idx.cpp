#include "host/data/idx.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <random>

#include "host/os/file_bytes.h"
#include "tests/support/catch.h"
#include "tests/support/child_process.h"
#include "tests/support/data_files.h"

using namespace mnist;
using namespace mnist::test;

namespace {

constexpr int64_t kMany = 1 << 20;

Failure parse_failure(const Bytes& bytes, int rank, int64_t max_values = kMany) {
  return failure_of([&] { parse_idx(bytes, "file.gz", rank, max_values); });
}

// One line that names the file and says `part`.
bool says(const Failure& failure, const std::string& part) {
  INFO(failure.text);
  const bool good = failure.code == ExitCode::kBadInput && failure.text.starts_with("file.gz: ") &&
                    contains(failure.text, part) && !contains(failure.text, "\n");
  CHECK(good);
  return good;
}

Bytes without_header(const Bytes& idx, int rank) {
  return {idx.begin() + 4 + 4 * rank, idx.end()};
}

}  // namespace

TEST_CASE("idx: raw, gzipped and in several gzip members") {
  const Bytes raw = idx_images(3);
  const Bytes first(raw.begin(), raw.begin() + 1000), rest(raw.begin() + 1000, raw.end());
  for (const Bytes& file : {raw, gzip(raw), gzip(raw, 0), gzip(first) + gzip(rest),
                            gzip(first) + gzip({}) + gzip(rest) + gzip({})}) {
    const IdxFile idx = parse_idx(file, "file", 3, kMany);
    CHECK(idx.sizes == std::vector<int64_t>{3, 28, 28});
    CHECK(idx.values == without_header(raw, 3));
    CHECK(idx.sha256 == sha256_hex(raw));
    CHECK(idx.name == "file");
  }
  const IdxFile labels = parse_idx(gzip(idx_labels(12)), "file", 1, kMany);
  CHECK(labels.sizes == std::vector<int64_t>{12});
  CHECK(labels.values == Bytes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1});
}

TEST_CASE("idx: every truncation is refused") {
  const Bytes raw = idx_images(2), labels = idx_labels(300);
  const Bytes members = gzip(labels) + gzip(Bytes(0));
  const auto refuse_all = [](const Bytes& whole, int rank) {
    REQUIRE(parse_failure(whole, rank).code == ExitCode::kOk);
    for (size_t size = 0; size < whole.size(); ++size) {
      INFO("the first " << size << " of " << whole.size() << " bytes");
      REQUIRE(parse_failure(Bytes(whole.begin(), whole.begin() + size), rank).code ==
              ExitCode::kBadInput);
    }
  };
  refuse_all(raw, 3);
  refuse_all(labels, 1);
  refuse_all(gzip(raw), 3);
  refuse_all(gzip(raw, 0), 3);
  refuse_all(gzip(labels), 1);

  // A file cut between two members is a whole file to gzip: only the length can tell.
  const Bytes first(labels.begin(), labels.begin() + 100), rest(labels.begin() + 100, labels.end());
  refuse_all(gzip(first) + gzip(rest), 1);
}

TEST_CASE("idx: every bit flip of a gzip file is refused or changes nothing") {
  const Bytes raw = idx_images(2), file = gzip(raw);
  int harmless = 0;
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    Bytes damaged = file;
    damaged[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    try {
      const IdxFile idx = parse_idx(damaged, "file.gz", 3, kMany);
      INFO("bit " << bit);
      REQUIRE(idx.values == without_header(raw, 3));
      ++harmless;
    } catch (const Error& error) {
      REQUIRE(error.code() == ExitCode::kBadInput);
    }
  }
  // Time, system and hints in the header: no more than its 10 bytes.
  CHECK(harmless <= 80);
}

TEST_CASE("idx: random damage never does more than Error(kBadInput)") {
  std::mt19937 random(20);
  const Bytes seeds[] = {idx_images(1), gzip(idx_images(1)), idx_labels(50), gzip(idx_labels(50)),
                         gzip(idx_labels(50)) + gzip(idx_labels(50))};
  for (int round = 0; round < 20000; ++round) {
    Bytes file = seeds[round % 5];
    for (int change = 1 + static_cast<int>(random() % 4); change > 0; --change)
      file[random() % file.size()] = static_cast<uint8_t>(random());
    if (random() % 4 == 0) file.resize(random() % file.size());
    const Failure failure = parse_failure(file, random() % 2 ? 1 : 3);
    REQUIRE((failure.code == ExitCode::kOk || failure.code == ExitCode::kBadInput));
  }
}

TEST_CASE("idx: what is wrong is named") {
  const Bytes labels = idx_labels(20);
  CHECK(says(parse_failure({}, 1), "it is empty"));
  CHECK(says(parse_failure(gzip({}), 1), "it is empty"));
  CHECK(says(parse_failure(text_bytes("<!DOCTYPE html><html>503</html>"), 1), "an HTML page"));
  CHECK(says(parse_failure(text_bytes("\n <HTML>moved</HTML>"), 1), "an HTML page"));
  CHECK(says(parse_failure(text_bytes("version https://git-lfs..."), 1),
             "\"version https://git-lfs"));
  CHECK(says(parse_failure(text_bytes("PK\x03\x04 zipped up"), 1), "a zip archive"));
  CHECK(says(parse_failure(gzip(text_bytes("label,pixel0")), 1), "unpacked, it begins with"));
  CHECK(says(parse_failure(idx_header({2}, 0x0D) + Bytes(8), 1), "type 0x0d"));
  CHECK(says(parse_failure(labels, 3), "1 IDX dimensions; images have 3"));
  CHECK(says(parse_failure(idx_images(1), 1), "3 IDX dimensions; labels have 1"));
  CHECK(says(parse_failure(idx_header({0}), 1), "nothing in it"));
  CHECK(says(parse_failure(labels + Bytes{7}, 1), "too long"));
  CHECK(says(parse_failure(gzip(labels + Bytes{7}), 1), "too long"));
  CHECK(says(parse_failure(gzip(labels) + gzip(Bytes{7}), 1), "too long"));
  CHECK(says(parse_failure(idx_header({21}) + Bytes(20), 1), "promises 21 values, it has 20"));
  CHECK(
      says(parse_failure(gzip(labels) + text_bytes("junk"), 1), "4 bytes that are not gzip data"));
  CHECK(says(parse_failure(gzip(labels) + Bytes{0x1f}, 1), "not gzip data"));
  Bytes bad_sum = gzip(labels);
  bad_sum[bad_sum.size() - 6] ^= 1;
  CHECK(says(parse_failure(bad_sum, 1), "corrupt gzip data"));
}

TEST_CASE("idx: a header may promise anything without memory being taken for it") {
  CHECK(says(parse_failure(idx_header({0xffffffffu, 28, 28}), 3),
             "promises 4294967295 x ... values"));
  CHECK(says(parse_failure(idx_header({0xffffffffu, 0xffffffffu, 0xffffffffu}), 3), "at most"));
  CHECK(says(parse_failure(idx_header({65536, 65536, 65536}), 3, int64_t{1} << 40), "at most"));
  CHECK(says(parse_failure(gzip(idx_header({0x80000000u})), 1), "promises 2147483648 values"));

  // Within the limit, but not in the file: 8 GB are promised, few may be used. In a child, whose
  // peak is its own.
  const auto peak_kb = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const int status = in_child([&] {
    const long before = peak_kb();
    for (const Bytes& file : {idx_header({8000000000u / 4, 2, 2}) + Bytes(100),
                              gzip(idx_header({8000000000u / 4, 2, 2}) + Bytes(100))})
      if (parse_failure(file, 3, int64_t{1} << 34).code != ExitCode::kBadInput) return 1;
    return peak_kb() - before < 200000 ? 0 : 2;
  });
  CHECK(status == 0);
}

TEST_CASE("idx: a gzip bomb is not unpacked beyond the header's promise") {
  const Bytes bomb = gzip(idx_header({10}) + Bytes(50000000));
  CHECK(bomb.size() < 100000);
  CHECK(says(parse_failure(bomb, 1), "too long"));
}

TEST_CASE("idx: files longer than the growth step are read whole") {
  Bytes raw = idx_header({70, 1024, 1024});
  for (size_t i = 0; i < size_t{70} << 20; ++i) raw.push_back(static_cast<uint8_t>(i >> 8 ^ i));
  const IdxFile idx = parse_idx(raw, "file", 3, int64_t{1} << 30);
  CHECK(idx.values == without_header(raw, 3));
  raw.pop_back();
  CHECK(says(parse_failure(raw, 3, int64_t{1} << 30), "too short"));
}

TEST_CASE("idx: images and labels must belong together") {
  const auto images = [](const Bytes& raw) { return parse_idx(raw, "file.gz", 3, kMany); };
  const auto labels = [](const Bytes& raw) { return parse_idx(raw, "file.gz", 1, kMany); };
  const ImageSet set = join_idx(images(idx_images(3)), labels(idx_labels(3)));
  CHECK(set.count == 3);
  CHECK(set.height == 28);
  CHECK(set.width == 28);
  CHECK(set.images == without_header(idx_images(3), 3));
  CHECK(set.labels == Bytes{0, 1, 2});

  const auto join_failure = [&](const Bytes& left, const Bytes& right) {
    return failure_of([&] { join_idx(images(left), labels(right)); });
  };
  CHECK(says(join_failure(idx_images(3), idx_labels(4)), "4 labels for the 3 images"));
  CHECK(says(join_failure(idx_images(2), idx_header({2}) + Bytes{0, 10}), "label 1 is 10"));
  CHECK(says(join_failure(idx_header({1, 32, 32}) + Bytes(1024), idx_labels(1)), "32x32"));
  CHECK(says(join_failure(idx_header({28, 28, 1}) + Bytes(784), idx_labels(28)), "28x1"));
}

TEST_CASE("file bytes: what is not a readable file is named") {
  const TemporaryDirectory directory;
  const auto read_failure = [&](const std::string& name, size_t limit = 100) {
    return failure_of([&] { read_file_bytes(directory / name, limit); });
  };
  write_bytes(directory / "small", Bytes(100, 7));
  CHECK(read_file_bytes(directory / "small", 100) == Bytes(100, 7));
  CHECK(read_failure("small", 99).code == ExitCode::kBadInput);
  CHECK(contains(read_failure("small", 99).text, "100 bytes; at most 99 bytes"));
  CHECK(read_failure("absent").code == ExitCode::kMissingInput);
  CHECK(contains(read_failure("absent").text, "No such file"));
  CHECK(read_failure("").code == ExitCode::kBadInput);
  CHECK(contains(read_failure("").text, "a directory"));
  REQUIRE(mkfifo((directory / "pipe").c_str(), 0600) == 0);
  CHECK(read_failure("pipe").code == ExitCode::kBadInput);
  write_bytes(directory / "empty", {});
  CHECK(read_file_bytes(directory / "empty", 0).empty());
}
