#include "host/data/pictures/find_digits.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/data/pictures/pieces.h"
#include "host/data/pictures/plane.h"
#include "tests/support/catch.h"
#include "tests/support/sketch.h"

namespace mnist::test {  // Leptonica has a Box, too

namespace {

PictureDigits find(const Plane& grey, const FindOptions& options = {}) {
  return find_digits(to_pix(grey).get(), options);
}

// Within `slack` pixels on every side.
bool near(const Box& a, const Box& b, int slack) {
  return std::abs(a.x - b.x) <= slack && std::abs(a.y - b.y) <= slack &&
         std::abs(right(a) - right(b)) <= slack && std::abs(bottom(a) - bottom(b)) <= slack;
}

// How alike two images are: the cosine of the angle between them, at the best of the places one
// pixel around, since a hair's difference may move the centre of mass into the next pixel.
double likeness(const FoundDigit& a, const FoundDigit& b) {
  const auto at = [](const FoundDigit& d, int x, int y) -> double {
    return x < 0 || y < 0 || x >= 28 || y >= 28 ? 0 : d.image[size_t(y * 28 + x)];
  };
  double best = 0;
  for (int dy = -1; dy <= 1; ++dy)
    for (int dx = -1; dx <= 1; ++dx) {
      double ab = 0, aa = 0, bb = 0;
      for (int y = 0; y < 28; ++y)
        for (int x = 0; x < 28; ++x) {
          const double p = at(a, x, y), q = at(b, x + dx, y + dy);
          ab += p * q, aa += p * p, bb += q * q;
        }
      best = std::max(best, ab / std::sqrt(aa * bb));
    }
  return best;
}

// What is found of a 3 of 100 x 140 at (300,200) when nothing is in its way.
constexpr Box kThree = {306, 192, 82, 156};
void draw_three(Sketch& sketch, double thick = 14) {
  sketch.digit(3, 300, 200, 100, 140, thick);
}
FoundDigit plain_three() {
  Sketch sketch(640, 480);
  draw_three(sketch);
  return find(sketch.grey()).digits.at(0);
}

void check_three(const PictureDigits& found) {
  REQUIRE(found.digits.size() == 1);
  const Box& box = found.digits[0].box;
  CAPTURE(box.x, box.y, box.width, box.height);
  CHECK(near(box, kThree, 4));
  CHECK(likeness(found.digits[0], plain_three()) > 0.93);
}

}  // namespace

TEST_CASE("find_digits: one digit, dark on light or light on dark", "[pictures]") {
  Sketch sketch(640, 480);
  draw_three(sketch);
  check_three(find(sketch.grey()));
  check_three(find(sketch.grey(0, true)));
  CHECK(find(sketch.grey()).digits[0].image == find(sketch.grey(0, true)).digits[0].image);
  // Told the wrong way round, it sees no strokes.
  FindOptions options;
  options.ink = Ink::kLight;
  CHECK(find(sketch.grey(), options).digits.empty());
  check_three(find(sketch.grey(0, true), options));
  options.ink = Ink::kDark;
  check_three(find(sketch.grey(), options));
}

TEST_CASE("find_digits: paper in uneven light, grain, a faint pencil", "[pictures]") {
  SECTION("shaded") {
    Sketch sketch(640, 480, 220, 60);
    draw_three(sketch);
    sketch.shade(0.4);
    check_three(find(sketch.grey(8)));
  }
  SECTION("faint") {
    Sketch sketch(640, 480, 200, 150);
    draw_three(sketch);
    check_three(find(sketch.grey(6)));
  }
  SECTION("the soft edge of a shadow across it") {
    Sketch sketch(640, 480, 220, 40);
    for (int x = 0; x < 640; ++x)
      sketch.fill(x, 0, 1, 480, 220 * (0.8 + 0.2 * std::tanh((x - 330) / 15.0)));
    draw_three(sketch);
    check_three(find(sketch.grey(4)));
  }
  SECTION("out of focus is still a stroke, a soft shadow is none") {
    Sketch sketch(640, 480, 220, 60);
    for (int i = 0; i < 40; ++i) sketch.line({{60, 380}, {200, 430}}, 80 - 2 * i, i / 80.0);
    CHECK(find(sketch.grey(4)).digits.empty());
    draw_three(sketch);
    check_three(find(sketch.grey(4)));
  }
}

TEST_CASE("find_digits: what is no writing is set aside", "[pictures]") {
  Sketch sketch(640, 480, 235, 30);
  SECTION("ruled paper, not quite level") {
    for (double y = 15; y < 480; y += 47) sketch.line({{0, y}, {640, y + 6}}, 2, 0.7);
  }
  SECTION("squared paper") {
    for (double y = 15; y < 480; y += 35) sketch.line({{0, y}, {640, y}}, 2, 0.6);
    for (double x = 22; x < 640; x += 35) sketch.line({{x, 0}, {x, 480}}, 2, 0.6);
  }
  SECTION("a frame around it") {
    sketch.line({{250, 150}, {450, 150}, {450, 400}, {250, 400}, {250, 150}}, 5);
  }
  SECTION("a frame that the picture's border cuts off") {
    sketch.line({{250, 0}, {250, 400}, {640, 400}}, 5);
  }
  SECTION("specks and a blot") {
    Random random(7);
    for (int i = 0; i < 40; ++i) {
      const double x = random.real(0, 640), y = random.real(0, 480);
      sketch.line({{x, y}, {x + 1, y}}, random.real(1, 5));
    }
    sketch.line({{80, 90}, {81, 90}}, 60);
  }
  SECTION("a dash and a comma") {
    sketch.line({{120, 270}, {200, 270}}, 14);
    sketch.line({{420, 345}, {412, 365}}, 14);
  }
  SECTION("the edge of the table") {
    sketch.fill(0, 440, 640, 40, 70);
  }
  SECTION("a sheet on a table") {
    sketch.fill(0, 0, 640, 60, 60);
    sketch.fill(0, 430, 640, 50, 60);
    sketch.fill(0, 0, 90, 480, 60);
    sketch.fill(560, 0, 80, 480, 60);
  }
  draw_three(sketch);
  check_three(find(sketch.grey(4)));
}

TEST_CASE("find_digits: nothing there", "[pictures]") {
  const auto check_blank = [](const Plane& grey) {
    const PictureDigits found = find(grey);
    CHECK(found.digits.empty());
    CHECK(found.why_none == "the picture is blank");
  };
  for (const int side : {1, 2, 28, 29, 300}) {
    check_blank(Plane(side, side, 255));
    check_blank(Plane(side, side, 0));
    check_blank(Plane(side, 1, 127));
  }
  Sketch paper(600, 400, 210);
  check_blank(paper.grey(10));
  paper.shade(0.5);
  check_blank(paper.grey(5));
  for (double y = 20; y < 400; y += 40) paper.line({{0, y}, {600, y + 3}}, 2, 0.4);
  check_blank(paper.grey(3));
}

TEST_CASE("find_digits: several, in reading order", "[pictures]") {
  Sketch sketch(800, 600, 230, 20);
  sketch.number("2026", 100, 60, 110, 30, 12);
  sketch.number("15", 300, 240, 120, 40, 12);
  sketch.number("934", 80, 430, 100, 25, 12);
  sketch.shade(0.7);
  const PictureDigits found = find(sketch.grey(3));
  std::vector<int> lines;
  for (const FoundDigit& digit : found.digits) lines.push_back(digit.line);
  CHECK(lines == std::vector<int>{0, 0, 0, 0, 1, 1, 2, 2, 2});
  CHECK(found.width == 800);
  CHECK(found.height == 600);
  for (size_t i = 1; i < found.digits.size(); ++i)
    if (lines[i] == lines[i - 1]) CHECK(found.digits[i].box.x > found.digits[i - 1].box.x);
  CHECK(found.digits[0].image != found.digits[1].image);
  CHECK(likeness(found.digits[0], found.digits[2]) > 0.98);  // both are 2
}

TEST_CASE("find_digits: strokes that belong together", "[pictures]") {
  Sketch sketch(700, 300);
  sketch.number("545", 60, 70, 150, 50, 10);  // 5 and 4 are two strokes each
  const PictureDigits found = find(sketch.grey());
  REQUIRE(found.digits.size() == 3);
  for (const FoundDigit& digit : found.digits) CHECK(std::abs(digit.box.height - 160) <= 4);
  CHECK(likeness(found.digits[0], found.digits[2]) > 0.98);

  FindOptions single;
  single.single = true;
  const PictureDigits one = find(sketch.grey(), single);
  REQUIRE(one.digits.size() == 1);
  Box all = found.digits[0].box;
  for (const FoundDigit& digit : found.digits) all = united(all, digit.box);
  CHECK(near(one.digits[0].box, all, 1));
}

TEST_CASE("find_digits: digits that touch are offered in parts", "[pictures]") {
  Sketch sketch(500, 300);
  sketch.digit(2, 80, 70, 125, 150, 10);
  sketch.digit(3, 158, 70, 125, 150, 10);
  const PictureDigits found = find(sketch.grey());
  REQUIRE(found.digits.size() == 1);
  REQUIRE(found.digits[0].parts.size() == 2);
  const auto alone = [](int digit) {
    Sketch one(500, 300);
    one.digit(digit, 80, 70, 125, 150, 10);
    return find(one.grey()).digits.at(0);
  };
  CHECK(likeness(found.digits[0].parts[0], alone(2)) > 0.85);
  // The stroke that both share goes to one of them.
  CHECK(likeness(found.digits[0].parts[1], alone(3)) > 0.6);
  for (const int digit : {1, 3, 6, 8, 9}) CHECK(alone(digit).parts.empty());
}

TEST_CASE("find_digits: large pictures and small digits", "[pictures]") {
  Sketch large(4000, 3000, 230, 40);
  large.digit(7, 1000, 1200, 700, 1000, 60);
  const PictureDigits found = find(large.grey(6));
  CHECK(found.width == 4000);
  CHECK(found.height == 3000);
  REQUIRE(found.digits.size() == 1);
  CHECK(near(found.digits[0].box, {1040, 1170, 620, 1060}, 12));

  Sketch small(64, 64);
  small.digit(7, 20, 20, 10, 14, 1.5);
  REQUIRE(find(small.grey()).digits.size() == 1);
  CHECK(near(find(small.grey()).digits[0].box, {20, 19, 10, 16}, 2));
}

TEST_CASE("find_digits: a page full of small shapes is none of digits", "[pictures]") {
  Sketch sketch(1500, 1500);
  for (int y = 20; y < 1480; y += 40)
    for (int x = 20; x < 1480; x += 40)
      sketch.line({{double(x), double(y)}, {x + 9.0, y + 20.0}}, 4);
  const PictureDigits found = find(sketch.grey());
  CHECK(found.digits.empty());
  CHECK(found.why_none == "the picture shows 1369 shapes, too many for digits");
}

TEST_CASE("find_digits: shapes of every kind end in bounded time", "[pictures]") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed);
    Plane plane(random.integer(1, 90), random.integer(1, 90));
    const int kind = random.integer(0, 3);
    for (size_t i = 0; i < plane.pixels.size(); ++i) {
      const int x = int(i) % plane.width, y = int(i) / plane.width;
      plane.pixels[i] = kind == 0   ? uint8_t(random.integer(0, 255))
                        : kind == 1 ? uint8_t(random.integer(0, 1) * 255)
                        : kind == 2 ? uint8_t((x / 3 + y / 5) % 2 * 255)
                                    : uint8_t(x * 255 / plane.width);
    }
    const PictureDigits found = find(plane);
    CHECK(found.digits.empty() != found.why_none.empty());
    for (const FoundDigit& digit : found.digits) {
      CHECK(digit.box.x >= 0);
      CHECK(digit.box.y >= 0);
      CHECK(right(digit.box) <= plane.width);
      CHECK(bottom(digit.box) <= plane.height);
      CHECK(*std::max_element(digit.image.begin(), digit.image.end()) >= 250);
    }
  }
}

TEST_CASE("find_digits: a picture of stripes is answered soon", "[pictures]") {
  Plane plane(1600, 1600, 255);
  for (int y = 0; y < plane.height; ++y)
    for (int x = 0; x < plane.width; ++x)
      if ((x + y) % 16 < 4) plane.at(x, y) = 0;
  const PictureDigits found = find(plane);
  CHECK(found.digits.empty());
  CHECK(found.why_none == "the picture shows a pattern, no digits");
  CHECK(found.width == 1600);
}

}  // namespace mnist::test
