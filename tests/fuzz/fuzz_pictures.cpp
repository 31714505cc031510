// Mutated files of every format, and drawn pictures that are hard to search, through all that meets
// foreign bytes: decoders, EXIF, the search for digits, the pipe, annotation. In this process, so
// that sanitizers see it; best in a build with them.
//
//     MNIST_FUZZ_SECONDS=600 build-sanitize/fuzz_pictures --rng-seed 7
//
// The input at hand is in fuzz_pictures.input until the end, for after a crash; the one that took
// longest is left in fuzz_pictures.slowest. MNIST_FUZZ_FILE=FILE runs that one alone.
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <string>

#include "host/data/pictures/annotate.h"
#include "host/data/pictures/decode.h"
#include "host/data/pictures/exif.h"
#include "host/data/pictures/find_digits.h"
#include "host/data/pictures/picture_pipe.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/picture_files.h"
#include "tests/support/random.h"
#include "tests/support/sketch.h"

namespace mnist::test {
namespace {

constexpr double kSlow = 20;  // seconds that no picture may take, with sanitizers and all

double processor_seconds() {
  return double(std::clock()) / CLOCKS_PER_SEC;
}

bool one_in(Random& random, int n) {
  return random.integer(1, n) == 1;
}

size_t place(Random& random, size_t size) {
  return size_t(random.next() % size);
}

// --- files ---------------------------------------------------------------------------------------

Bytes pgm(const Plane& plane) {
  const std::string header =
      "P5 " + std::to_string(plane.width) + " " + std::to_string(plane.height) + " 255\n";
  Bytes file(header.begin(), header.end());
  file.insert(file.end(), plane.pixels.begin(), plane.pixels.end());
  return file;
}

std::vector<Bytes> corpus() {
  std::vector<Bytes> files;
  for (auto& [name, file] : every_kind()) files.push_back(std::move(file));
  constexpr int kWidth = 120, kHeight = 80;
  Sketch sketch(kWidth, kHeight, 230, 30);
  sketch.number("42", 20, 15, 50, 10, 5);
  const Bytes grey = sketch.grey(4).pixels;
  Bytes rgba;
  for (const uint8_t level : grey) rgba.insert(rgba.end(), {level, level, level, 255});
  files.push_back(encode_png({kWidth, kHeight, PNG_COLOR_TYPE_GRAY, 8}, grey));
  files.push_back(encode_png({kWidth, kHeight, PNG_COLOR_TYPE_GRAY, 8, true}, grey));
  files.push_back(encode_jpeg(kWidth, kHeight, JpegColors::kGrey, false, grey));
  files.push_back(with_orientation(encode_jpeg(kWidth, kHeight, JpegColors::kGrey, true, grey), 6));
  files.push_back(encode_jpeg(kWidth, kHeight, JpegColors::kYcck, false, rgba));
  files.push_back(encode_gif(kWidth, kHeight, grey));
  files.push_back(encode_rgba(LeptonicaFormat::kWebp, kWidth, kHeight, rgba));
  files.push_back(encode_rgba(LeptonicaFormat::kTiff, kWidth, kHeight, rgba));
  files.push_back(encode_bmp(kWidth, kHeight, grey));
  files.push_back(pgm(sketch.grey(4)));
  return files;
}

uint32_t big_endian(const Bytes& file, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | file[at + i];
  return value;
}

// PNG's checksums made right again: otherwise nothing behind them would ever be reached.
void mend_checksums(Bytes& png) {
  for (size_t at = 8; at + 12 <= png.size();) {
    const size_t length = big_endian(png, at);
    if (length > png.size() - at - 12) return;
    const auto sum = uint32_t(crc32(0, &png[at + 4], uInt(length + 4)));
    for (size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = uint8_t(sum >> (24 - 8 * i));
    at += 12 + length;
  }
}

void mutate_once(Bytes& file, const Bytes& other, Random& random) {
  static constexpr uint64_t kTelling[] = {
      0,     1,      2,      7,      8,       0x7f,       0x80,       0xff,
      0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff};
  if (file.empty()) return;
  // Most that matters is in the header.
  const size_t reach = one_in(random, 2) ? std::min<size_t>(file.size(), 100) : file.size();
  const size_t at = place(random, reach);
  const auto begin = file.begin() + std::ptrdiff_t(at);
  const size_t length = std::min(file.size() - at, size_t(random.integer(1, 40)));
  const auto end = begin + std::ptrdiff_t(length);
  switch (random.integer(0, 7)) {
    case 0:
      file[at] ^= uint8_t(1 << random.integer(0, 7));
      break;
    case 1:
      file[at] = uint8_t(random.next());
      break;
    case 2: {
      const uint64_t value = kTelling[place(random, std::size(kTelling))];
      const int bytes = 1 << random.integer(0, 2);
      const bool big = one_in(random, 2);
      for (int i = 0; i < bytes && at + size_t(i) < file.size(); ++i)
        file[at + size_t(i)] = uint8_t(value >> 8 * (big ? bytes - 1 - i : i));
      break;
    }
    case 3:
      file.erase(begin, end);
      break;
    case 4: {
      const Bytes piece(begin, end);
      file.insert(file.begin() + std::ptrdiff_t(place(random, file.size())), piece.begin(),
                  piece.end());
      break;
    }
    case 5: {
      const size_t from = place(random, other.size());
      const size_t count = std::min(length, other.size() - from);
      std::copy_n(other.begin() + std::ptrdiff_t(from), count, begin);
      break;
    }
    case 6:
      for (auto byte = begin; byte != end; ++byte) *byte = uint8_t(random.next());
      break;
    default:
      if (one_in(random, 4)) file.resize(at);
  }
}

Bytes mutated_file(const std::vector<Bytes>& files, Random& random) {
  Bytes file = files[place(random, files.size())];
  for (int changes = random.integer(1, 6); changes > 0; --changes)
    mutate_once(file, files[place(random, files.size())], random);
  if (file.size() > 8 && file[0] == 0x89 && !one_in(random, 8)) mend_checksums(file);
  return file;
}

// --- drawn pictures ------------------------------------------------------------------------------

// A pattern with many shapes, or shapes within shapes: `at(x, y)` says where the ink is.
void print_pattern(Plane& plane, uint8_t level, Random& random) {
  const int kind = random.integer(0, 6), period = random.integer(2, 40);
  const int thick = random.integer(1, std::max(1, period / 2));
  const int left = random.integer(0, plane.width), top = random.integer(0, plane.height);
  const auto at = [&](int x, int y) {
    const int u = std::abs(x - left), v = std::abs(y - top);
    switch (kind) {
      case 0:
        return (x + y) % period < thick;
      case 1:
        return std::max(u, v) % period < thick;
      case 2:
        return int(std::hypot(u, v)) % period < thick;
      case 3:
        return x % period < thick && y % period < thick;
      case 4:
        return y % period < thick;
      case 5:
        return x % period < thick;
      default:
        return std::max(x, y) % period < thick;
    }
  };
  for (int y = 0; y < plane.height; ++y)
    for (int x = 0; x < plane.width; ++x)
      if (at(x, y)) plane.at(x, y) = level;
}

int side(Random& random) {
  if (one_in(random, 10)) return random.integer(1, 3);
  if (one_in(random, 40)) return random.integer(400, 2500);
  return random.integer(4, one_in(random, 2) ? 40 : 300);
}

Plane drawn_picture(Random& random) {
  const int width = side(random), height = side(random);
  const int paper = random.integer(0, 255), ink = random.integer(0, 255);
  Sketch sketch(width, height, paper, ink);
  const auto x = [&] { return random.integer(-10, width + 10); };
  const auto y = [&] { return random.integer(-10, height + 10); };
  const double thick = random.integer(1, 1 + std::min(width, height) / 8);
  if (one_in(random, 4)) sketch.fill(x(), y(), width / 2, height / 2, random.integer(0, 255));
  for (int i = random.integer(0, 6); i > 0; --i) switch (random.integer(0, 3)) {
      case 0:
        sketch.digit(random.integer(0, 9), x(), y(), width / 3.0, height / 3.0, thick);
        break;
      case 1:
        sketch.line({{double(x()), double(y())}, {double(x()), double(y())}}, thick,
                    random.real(0, 1));
        break;
      case 2:
        sketch.number("1234567890", 0, y(), std::max(2.0, width / 10.0), random.integer(-4, 6),
                      std::max(1.0, thick / 3));
        break;
      default:
        sketch.shade(random.real(0, 1));
    }
  Plane plane = sketch.grey(one_in(random, 2) ? 0 : random.integer(1, 60));
  if (one_in(random, 4)) print_pattern(plane, uint8_t(ink), random);
  if (one_in(random, 8))
    for (int i = random.integer(1, width * height); i > 0; --i)
      plane.pixels[place(random, plane.pixels.size())] = uint8_t(ink);
  return plane;
}

// --- what is fuzzed ------------------------------------------------------------------------------

SandboxReceiver receiver(const Bytes& sent) {
  return {[&sent, position = size_t(0)](std::span<std::byte> out) mutable {
            if (out.size() > sent.size() - position) return false;
            std::transform(sent.begin() + std::ptrdiff_t(position),
                           sent.begin() + std::ptrdiff_t(position + out.size()), out.begin(),
                           [](uint8_t byte) { return std::byte(byte); });
            position += out.size();
            return true;
          },
          1'000'000};
}

// Returns whether the pipe's end in the parent took it.
bool received(const Bytes& sent, PictureDigits& picture) try {
  transfer_digits(receiver(sent), picture);
  return true;
} catch (const SandboxFailed&) {
  return false;
}

std::vector<PictureLabel> some_labels(const PictureDigits& picture, Random& random) {
  std::vector<PictureLabel> labels;
  for (const FoundDigit& digit : picture.digits) labels.push_back({digit.box, "7?", false});
  Box box;
  box.x = random.integer(0, picture.width - 1);
  box.y = random.integer(0, picture.height - 1);
  box.width = random.integer(1, picture.width - box.x);
  box.height = random.integer(1, picture.height - box.y);
  labels.push_back({box, "0123456789", true});
  return labels;
}

struct Counts {
  int refused = 0, none = 0, digits = 0, messages = 0;
};

// Whatever the bytes are: digits or a reason for none, or one refusal.
void run(const Bytes& file, const Bytes& noise, Random& random, Counts& counts) {
  const int orientation = exif_orientation(file);
  REQUIRE(orientation >= 1);
  REQUIRE(orientation <= 8);
  DecodedPicture decoded;
  try {
    decoded = decode_picture(file);
  } catch (const Error& error) {
    INFO(error.what());
    REQUIRE(error.code() == ExitCode::kBadInput);
    ++counts.refused;
    return;
  }
  FindOptions options;
  options.ink = Ink(random.integer(0, 2));
  options.single = one_in(random, 5);
  PictureDigits found = find_digits(decoded.grey.get(), options);
  scale_boxes(found, decoded.width, decoded.height);
  ++(found.digits.empty() ? counts.none : counts.digits);
  if (options.single) REQUIRE(found.digits.size() <= 1);
  for (const FoundDigit& digit : found.digits)
    REQUIRE(*std::max_element(digit.image.begin(), digit.image.end()) > 0);

  Bytes sent;
  transfer_digits(SandboxSender([&](std::span<const std::byte> bytes) {
                    for (const std::byte byte : bytes) sent.push_back(uint8_t(byte));
                  }),
                  found);
  PictureDigits same;
  REQUIRE(received(sent, same));
  REQUIRE(same.digits.size() == found.digits.size());
  REQUIRE(!draw_labels(decoded, some_labels(found, random)).empty());
  for (int i = random.integer(1, 5); i > 0; --i) mutate_once(sent, noise, random);
  PictureDigits other;
  counts.messages += received(sent, other);
}

}  // namespace

TEST_CASE("pictures: whatever the bytes are, there are digits, a reason or a refusal", "[fuzz]") {
  Random random;
  Counts counts;
  const std::vector<Bytes> files = corpus();
  if (const char* name = std::getenv("MNIST_FUZZ_FILE")) {
    const Bytes file = read_bytes(name);
    for (int i = 0; i < 20; ++i) run(file, files[0], random, counts);
    return;
  }
  const char* text = std::getenv("MNIST_FUZZ_SECONDS");
  const double seconds = text != nullptr ? std::stod(text) : 2;
  const std::filesystem::path here = std::filesystem::current_path();
  const auto input = here / "fuzz_pictures.input", slowest = here / "fuzz_pictures.slowest";
  const std::time_t end = std::time(nullptr) + std::time_t(seconds);
  int runs = 0;
  double longest = 0;
  while (std::time(nullptr) < end) {
    const Bytes file = one_in(random, 3) ? pgm(drawn_picture(random)) : mutated_file(files, random);
    write_bytes(input, file);
    const double start = processor_seconds();
    INFO("run " << runs << "; the picture is in " << input);
    run(file, files[place(random, files.size())], random, counts);
    const double took = processor_seconds() - start;
    if (took > longest) {
      longest = took;
      std::filesystem::rename(input, slowest);
    }
    REQUIRE(took < kSlow);
    ++runs;
  }
  std::filesystem::remove(input);
  std::cout << runs << " runs: " << counts.refused << " refused, " << counts.digits
            << " with digits, " << counts.none << " without; " << counts.messages
            << " mutated messages taken; the longest took " << longest << " s\n";
  REQUIRE(counts.refused > 0);
  REQUIRE(counts.digits > 0);
}

}  // namespace mnist::test
