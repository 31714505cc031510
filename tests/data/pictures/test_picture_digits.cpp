#include "host/data/pictures/picture_digits.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "host/data/pictures/picture_pipe.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/picture_files.h"

using namespace mnist;
using namespace mnist::test;

namespace {

// Black upright strokes, thick as a pen's, on white, [height,width].
Bytes strokes(int width, int height, const std::vector<Box>& boxes) {
  Bytes pixels(size_t(width) * height, 255);
  for (const Box& box : boxes)
    for (int y = box.y; y < box.y + box.height; ++y)
      for (int x = box.x; x < box.x + box.width; ++x) pixels[size_t(y) * width + x] = 0;
  return pixels;
}

Bytes png(int width, int height, const Bytes& pixels) {
  return encode_png({width, height, PNG_COLOR_TYPE_GRAY, 8}, pixels);
}

struct Rgb {
  int width = 0, height = 0;
  Bytes pixels;

  std::array<int, 3> at(int x, int y) const {
    const uint8_t* p = &pixels[(size_t(y) * width + x) * 3];
    return {p[0], p[1], p[2]};
  }
};

Rgb read_png(const Bytes& file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_memory(&image, file.data(), file.size()));
  image.format = PNG_FORMAT_RGB;
  Rgb rgb{int(image.width), int(image.height), Bytes(size_t(image.width) * image.height * 3)};
  REQUIRE(png_image_finish_read(&image, nullptr, rgb.pixels.data(), 0, nullptr));
  return rgb;
}

bool near(const Box& have, const Box& want, int tolerance) {
  return std::abs(have.x - want.x) <= tolerance && std::abs(have.y - want.y) <= tolerance &&
         std::abs(have.width - want.width) <= tolerance &&
         std::abs(have.height - want.height) <= tolerance;
}

// A pipe's two ends in memory.
struct Memory {
  Bytes bytes;
  size_t position = 0;

  Sandbox::Send send() {
    return [this](std::span<const std::byte> more) {
      for (const std::byte byte : more) bytes.push_back(static_cast<uint8_t>(byte));
    };
  }
  SandboxReceiver receiver() {
    return {[this](std::span<std::byte> out) {
              if (out.size() > bytes.size() - position) return false;
              std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()) + position, out.size(),
                          out.data());
              position += out.size();
              return true;
            },
            1'000'000};
  }
};

PictureDigits through_pipe(const PictureDigits& picture) {
  Memory memory;
  transfer_digits(SandboxSender(memory.send()), picture);
  PictureDigits received;
  transfer_digits(memory.receiver(), received);
  CHECK(memory.position == memory.bytes.size());
  return received;
}

PictureDigits two_digits() {
  PictureDigits picture{100, 50, {}, ""};
  FoundDigit digit{{10, 20, 30, 30}, 1, {}, {}};
  for (size_t i = 0; i < digit.image.size(); ++i) digit.image[i] = static_cast<uint8_t>(i);
  digit.parts = {digit, digit};
  picture.digits = {digit, {{99, 49, 1, 1}, 0, {}, {}}};
  return picture;
}

}  // namespace

TEST_CASE("picture digits: boxes are in the pixels of the picture as viewed") {
  const Box left{40, 30, 8, 60}, right{120, 30, 8, 60};
  const PictureDigits two =
      find_picture_digits(png(200, 120, strokes(200, 120, {left, right})), {});
  CHECK(two.width == 200);
  CHECK(two.height == 120);
  REQUIRE(two.digits.size() == 2);
  CHECK(near(two.digits[0].box, left, 2));
  CHECK(near(two.digits[1].box, right, 2));
  CHECK(*std::max_element(two.digits[0].image.begin(), two.digits[0].image.end()) > 200);

  // A picture that is decoded at half its size, and lies on its side in the file.
  const Box lying{1000, 1400, 1000, 120};
  const Bytes photo =
      encode_jpeg(4000, 3000, JpegColors::kGrey, false, strokes(4000, 3000, {lying}));
  const PictureDigits one = find_picture_digits(with_orientation(photo, 6), {});
  CHECK(one.width == 3000);
  CHECK(one.height == 4000);
  REQUIRE(one.digits.size() == 1);
  CHECK(near(one.digits[0].box, {3000 - 1520, 1000, 120, 1000}, 12));
}

TEST_CASE("picture digits: no digit is an answer, no picture an error") {
  const PictureDigits blank = find_picture_digits(png(60, 40, Bytes(2400, 255)), {});
  CHECK(blank.digits.empty());
  CHECK(blank.width == 60);
  CHECK(!blank.why_none.empty());

  Failure failure = failure_of([] { find_picture_digits(text_bytes("hello, world"), {}); });
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "it begins with the text \"hello, world\""));
  failure = failure_of([] { annotate_picture(Bytes{}, {}); });
  CHECK(failure.code == ExitCode::kBadInput);
  failure = failure_of([] { find_picture_digits(Bytes(kMaxPictureBytes + 1), {}); });
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "has 64.0 MB; pictures of at most 64.0 MB"));
}

// glibc's allocator can be forked with its locks held by other threads, AddressSanitizer's cannot.
#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("picture digits: other threads do not disturb") {
  std::atomic<bool> stop = false;
  std::vector<std::thread> busy;
  for (int i = 0; i < 3; ++i)
    busy.emplace_back([&] {
      while (!stop) Bytes(100'000).back() = 1;
    });
  const Bytes file = png(200, 120, strokes(200, 120, {{40, 30, 8, 60}}));
  for (int i = 0; i < 20; ++i) CHECK(find_picture_digits(file, {}).digits.size() == 1);
  stop = true;
  for (std::thread& thread : busy) thread.join();
}
#endif

TEST_CASE("picture digits: a decoder that runs wild is stopped") {
  // A progressive picture whose last scan comes thousands of times: each costs the decoder a pass
  // over all of the picture.
  Bytes jpeg = encode_jpeg(3000, 3000, JpegColors::kGrey, true, Bytes(9'000'000, 90));
  const Bytes scan{0xff, 0xda};
  const auto last = std::find_end(jpeg.begin(), jpeg.end(), scan.begin(), scan.end());
  REQUIRE(last != jpeg.end());
  const Bytes repeated(last, jpeg.end() - 2);
  REQUIRE(repeated.size() < 1000);
  for (int i = 0; i < 5000; ++i) jpeg.insert(jpeg.end() - 2, repeated.begin(), repeated.end());
  const Failure failure = failure_of([&] { find_picture_digits(jpeg, {}); });
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "takes more than 5 seconds or 1 GiB"));
}

TEST_CASE("picture digits: what comes out of the sandbox is checked") {
  const PictureDigits good = two_digits();
  const PictureDigits same = through_pipe(good);
  CHECK(same.width == 100);
  CHECK(same.height == 50);
  REQUIRE(same.digits.size() == 2);
  CHECK(same.digits[0].box.x == 10);
  CHECK(same.digits[0].line == 1);
  CHECK(same.digits[0].image == good.digits[0].image);
  REQUIRE(same.digits[0].parts.size() == 2);
  CHECK(same.digits[0].parts[1].box.height == 30);
  CHECK(same.digits[1].box.y == 49);
  CHECK(through_pipe({5, 5, {}, "it is\nblank"}).why_none == "it is?blank");

  const auto refused = [](const auto& change) {
    PictureDigits picture = two_digits();
    change(picture);
    CHECK_THROWS_AS(through_pipe(picture), SandboxFailed);
  };
  using P = PictureDigits;
  refused([](P& p) { p.width = 0; });
  refused([](P& p) { p.height = -50; });
  refused([](P& p) { p = {0, 5, {}, "it is blank"}; });
  refused([](P& p) { p = {5, 0, {}, "it is blank"}; });
  refused([](P& p) { p.width = p.height = 2'000'000'000; });
  refused([](P& p) { p.digits[0].box.x = -1; });
  refused([](P& p) { p.digits[0].box.y = 21; });
  refused([](P& p) { p.digits[0].box.width = 0; });
  refused([](P& p) { p.digits[0].box.width = 2'000'000'000; });
  refused([](P& p) { p.digits[0].box.x = 2'000'000'000; });
  refused([](P& p) { p.digits[1].line = -1; });
  refused([](P& p) { p.digits[1].line = 10'000; });
  refused([](P& p) { p.digits[0].parts[1].box.x = 71; });
  refused([](P& p) { p.why_none = "there is one"; });
  refused([](P& p) { p.digits.clear(); });
  refused([](P& p) { p.digits.resize(10'001, p.digits[1]); });
  refused([](P& p) {
    for (int i = 0; i < 3; ++i) p.digits[0].parts[0].parts = p.digits[0].parts;
  });

  Memory memory;
  transfer_digits(SandboxSender(memory.send()), good);
  for (size_t size = 0; size < memory.bytes.size(); ++size) {
    Memory cut{{memory.bytes.begin(), memory.bytes.begin() + std::ptrdiff_t(size)}};
    PictureDigits received;
    REQUIRE_THROWS_AS(transfer_digits(cut.receiver(), received), SandboxFailed);
  }
  Memory flood{Bytes(100, 0xff)};
  PictureDigits received;
  CHECK_THROWS_AS(transfer_digits(flood.receiver(), received), SandboxFailed);
}

TEST_CASE("picture digits: labels are drawn around the ink, in colour") {
  const Box ink{40, 50, 8, 60};
  const Bytes file = png(200, 160, strokes(200, 160, {ink}));
  const std::vector<PictureLabel> labels{{ink, "1 99 %", false}, {{150, 0, 50, 160}, "5?", true}};
  const Rgb drawn = read_png(annotate_picture(file, labels));
  CHECK(drawn.width == 200);
  CHECK(drawn.height == 160);
  const auto at = [&](int x, int y) { return drawn.at(x, y); };
  CHECK(at(44, 80) == std::array<int, 3>{0, 0, 0});
  CHECK(at(60, 80) == std::array<int, 3>{255, 255, 255});
  CHECK(at(39, 80)[2] > at(39, 80)[0] + 100);    // blue: sure
  CHECK(at(149, 80)[0] > at(149, 80)[2] + 100);  // orange: unsure
  // Letters above the box.
  int light = 0, blue = 0;
  for (int y = 20; y < 48; ++y)
    for (int x = 38; x < 80; ++x) {
      light += at(x, y)[0] > 200 && at(x, y)[1] > 200 ? 1 : 0;
      blue += at(x, y)[2] > at(x, y)[0] + 100 ? 1 : 0;
    }
  CHECK(blue > 100);
  CHECK(light > 50);
}

TEST_CASE("picture digits: a digit's own 28x28 as a PNG file") {
  std::array<uint8_t, 784> image{};
  for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<uint8_t>(i * 7);
  const Rgb read = read_png(png_of_digit(image));
  REQUIRE(read.width == 28);
  REQUIRE(read.height == 28);
  for (int i = 0; i < 784; ++i) REQUIRE(read.at(i % 28, i / 28)[1] == image[size_t(i)]);
}
