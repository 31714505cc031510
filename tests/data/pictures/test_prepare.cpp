#include "host/data/pictures/prepare.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "host/data/dataset.h"
#include "host/data/pictures/find_digits.h"
#include "host/data/pictures/pieces.h"
#include "tests/support/catch.h"
#include "tests/support/sketch.h"

namespace mnist::test {

namespace {

using Image = std::array<uint8_t, 28 * 28>;

struct Measures {
  int left = 28, top = 28, right = 0, bottom = 0;  // of what is not 0
  double x = 0, y = 0;                             // centre of mass, pixel centres at i + 0.5
  int brightest = 0;
};

Measures measures(const Image& image) {
  Measures m;
  double mass = 0;
  for (int y = 0; y < 28; ++y)
    for (int x = 0; x < 28; ++x) {
      const int v = image[size_t(y * 28 + x)];
      if (v == 0) continue;
      m.left = std::min(m.left, x), m.right = std::max(m.right, x + 1);
      m.top = std::min(m.top, y), m.bottom = std::max(m.bottom, y + 1);
      m.brightest = std::max(m.brightest, v);
      mass += v, m.x += v * (x + 0.5), m.y += v * (y + 0.5);
    }
  m.x /= mass, m.y /= mass;
  return m;
}

Plane block(int width, int height, uint8_t level) {
  Plane plane(width + 9, height + 5);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) plane.at(x + 4, y + 2) = level;
  return plane;
}

}  // namespace

TEST_CASE("prepare_digit: 20 pixels long, the aspect ratio kept, in the middle, the brightest 255",
          "[pictures]") {
  struct Case {
    int width, height, image_width, image_height;
  };
  for (const Case& c : {Case{20, 20, 20, 20}, Case{10, 40, 5, 20}, Case{300, 75, 20, 5},
                        Case{4, 10, 8, 20}, Case{1, 400, 1, 20}, Case{3, 3, 6, 6}}) {
    CAPTURE(c.width, c.height);
    const Measures m = measures(prepare_digit(block(c.width, c.height, 100)));
    CHECK(m.brightest == 255);
    // A block that begins within a pixel of the result reaches into one more.
    CHECK(m.right - m.left >= c.image_width);
    CHECK(m.right - m.left <= c.image_width + 1);
    CHECK(m.bottom - m.top >= c.image_height);
    CHECK(m.bottom - m.top <= c.image_height + 1);
    CHECK((m.x > 14 && m.x <= 15));
    CHECK((m.y > 14 && m.y <= 15));
  }
}

TEST_CASE("prepare_digit: averages by area", "[pictures]") {
  // Two columns of ink in a square of 40 that its corners span: a pixel of the result is 2x2
  // pixels.
  Plane ink(40, 40);
  ink.at(0, 0) = ink.at(39, 39) = 255;
  for (int y = 10; y < 30; ++y) ink.at(20, y) = ink.at(21, y) = 255, ink.at(23, y) = 255;
  const Image image = prepare_digit(ink);
  CHECK(std::count(image.begin(), image.end(), uint8_t(255)) == 10);
  CHECK(std::count(image.begin(), image.end(), uint8_t(128)) == 10);
  CHECK(std::count(image.begin(), image.end(), uint8_t(64)) == 2);
  CHECK(std::accumulate(image.begin(), image.end(), 0) == 10 * 255 + 10 * 128 + 2 * 64);
}

TEST_CASE("prepare_digit: what the middle pushes over the edge is cut off, not wrapped",
          "[pictures]") {
  Plane ink(20, 20);
  for (int y = 0; y < 20; ++y)
    for (int x = 0; x < 4; ++x) ink.at(x, y) = 255;
  for (int x = 0; x < 20; ++x) ink.at(x, 0) = 20;
  const Measures m = measures(prepare_digit(ink));
  CHECK(m.right == 28);
  CHECK((m.x > 13 && m.x < 15));
}

TEST_CASE("thickened: only what is thinner than MNIST's lines", "[pictures]") {
  const auto width = [](const Plane& ink) {
    Plane core = ink;
    for (uint8_t& v : core.pixels) v = v >= 128;
    return line_width(core);
  };
  Sketch fine(500, 500), broad(500, 500);
  fine.digit(3, 100, 100, 250, 300, 3);
  broad.digit(3, 100, 100, 250, 300, 45);
  const Plane thin = fine.grey(0, true), thick = broad.grey(0, true);
  CHECK(width(thin) < 4);
  CHECK(width(thickened(thin)) > 25);
  CHECK(width(thickened(thin)) < 40);
  CHECK(thickened(thick).pixels == thick.pixels);
  Sketch tiny(28, 28);
  tiny.digit(3, 7, 4.5, 14, 19, 1);  // no larger than MNIST's own: there is nothing to gain
  CHECK(thickened(tiny.grey(0, true)).pixels == tiny.grey(0, true).pixels);
}

// 9,996 is what the database's own procedure allows for: three of its digits are 19 pixels long,
// and one lies on the edge between two places.
TEST_CASE("find_digits: MNIST's test images come back bit for bit", "[pictures]") {
  if (std::getenv("CUDA_MNIST_DATA_DIR") == nullptr) {
    WARN("not run: CUDA_MNIST_DATA_DIR is not set");
    return;
  }
  const Dataset data = load_dataset({}, [](const std::string&) {}, {});
  int same = 0;
  for (int i = 0; i < 10000; ++i) {
    Plane plane(28, 28);
    std::copy_n(data.test.images.data() + i * 784, 784, plane.pixels.data());
    const PictureDigits found = find_digits(to_pix(plane).get(), {});
    same += found.digits.size() == 1 &&
            std::equal(plane.pixels.begin(), plane.pixels.end(), found.digits[0].image.begin());
  }
  CHECK(same >= 9996);
}

}  // namespace mnist::test
