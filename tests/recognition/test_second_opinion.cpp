// The network that comes with the program, on shapes that it has not been trained on.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "host/data/pictures/prepare.h"
#include "host/data/synthetic.h"
#include "host/recognition/second_opinion.h"
#include "tests/support/catch.h"
#include "tests/support/sketch.h"

namespace mnist {
namespace {

using test::Line;

// Of images [count,28,28], the most probable class of each.
std::vector<int> classes(const std::vector<uint8_t>& images) {
  const auto count = int64_t(images.size() / 784);
  const std::vector<float> rows = make_second_opinion()->predict(images.data(), count);
  REQUIRE(rows.size() == size_t(count) * kSecondClasses);
  std::vector<int> best;
  for (auto row = rows.begin(); row != rows.end(); row += kSecondClasses)
    best.push_back(int(std::max_element(row, row + kSecondClasses) - row));
  return best;
}

std::vector<uint8_t> drawn(const std::vector<Line>& lines, double thick) {
  test::Sketch sketch(160, 160);
  for (Line line : lines) {
    for (test::Point& p : line) p = {50 + 60 * p.x, 30 + 100 * p.y};
    sketch.line(line, thick);
  }
  const auto image = prepare_digit(sketch.grey(0, true));
  return {image.begin(), image.end()};
}

Line arc(double x, double y, double rx, double ry, double from, double to) {
  Line line;
  for (int i = 0; i <= 24; ++i) {
    const double angle = (from + (to - from) * i / 24) * 3.14159265358979 / 180;
    line.push_back({x + rx * std::cos(angle), y + ry * std::sin(angle)});
  }
  return line;
}

}  // namespace

TEST_CASE("the second opinion knows digits") {
  for (int digit = 0; digit < 10; ++digit)
    for (const double thick : {8.0, 11.0, 14.0}) {
      INFO(digit << ", pen of " << thick);
      CHECK(classes(drawn(test::digit_lines(digit), thick)) == std::vector{digit});
    }
  // Not MNIST's and not a font's: the built-in generator's.
  const ImageSet set = synthetic_digits(500, 3);
  const std::vector<int> found = classes({set.images.begin(), set.images.end()});
  int right = 0;
  for (size_t i = 0; i < found.size(); ++i) right += found[i] == set.labels[i];
  CHECK(right > 400);
}

TEST_CASE("letters and signs are no digits to the second opinion") {
  struct Shape {
    const char* name;
    std::vector<Line> lines;
  };
  const Shape shapes[] = {
      {"A", {{{0, 1}, {0.5, 0}, {1, 1}}, {{0.2, 0.6}, {0.8, 0.6}}}},
      {"E", {{{1, 0}, {0, 0}, {0, 1}, {1, 1}}, {{0, 0.5}, {0.8, 0.5}}}},
      {"H", {{{0, 0}, {0, 1}}, {{1, 0}, {1, 1}}, {{0, 0.5}, {1, 0.5}}}},
      {"K", {{{0, 0}, {0, 1}}, {{1, 0}, {0, 0.55}, {1, 1}}}},
      {"M", {{{0, 1}, {0, 0}, {0.5, 0.6}, {1, 0}, {1, 1}}}},
      {"N", {{{0, 1}, {0, 0}, {1, 1}, {1, 0}}}},
      {"P", {{{0, 1}, {0, 0}}, arc(0, 0.27, 0.9, 0.27, -90, 90)}},
      {"V", {{{0, 0}, {0.5, 1}, {1, 0}}}},
      {"W", {{{0, 0}, {0.25, 1}, {0.5, 0.3}, {0.75, 1}, {1, 0}}}},
      {"X", {{{0, 0}, {1, 1}}, {{1, 0}, {0, 1}}}},
      {"m",
       {{{0, 1}, {0, 0.5}},
        arc(0.25, 0.65, 0.25, 0.2, 180, 360),
        {{0.5, 0.65}, {0.5, 1}},
        arc(0.75, 0.65, 0.25, 0.2, 180, 360),
        {{1, 0.65}, {1, 1}}}},
      {"plus", {{{0.5, 0.2}, {0.5, 0.8}}, {{0, 0.5}, {1, 0.5}}}},
      {"minus", {{{0, 0.5}, {1, 0.5}}}},
      {"hash",
       {{{0.3, 0}, {0.3, 1}}, {{0.7, 0}, {0.7, 1}}, {{0, 0.3}, {1, 0.3}}, {{0, 0.7}, {1, 0.7}}}},
      {"star", {{{0.5, 0}, {0.8, 1}, {0, 0.4}, {1, 0.4}, {0.2, 1}, {0.5, 0}}}},
      {"face",
       {arc(0.5, 0.5, 0.6, 0.4, 0, 360),
        {{0.3, 0.35}, {0.3, 0.4}},
        {{0.7, 0.35}, {0.7, 0.4}},
        arc(0.5, 0.55, 0.3, 0.15, 20, 160)}},
  };
  for (const Shape& shape : shapes)
    for (const double thick : {8.0, 11.0, 14.0}) {
      INFO(shape.name << ", pen of " << thick);
      CHECK(classes(drawn(shape.lines, thick)) == std::vector{kNoDigit});
    }
}

TEST_CASE("two digits that touch are no digit to the second opinion") {
  for (const int digits : {23, 47, 58, 69, 82}) {
    test::Sketch sketch(260, 160);
    sketch.digit(digits / 10, 50, 30, 70, 100, 10);
    sketch.digit(digits % 10, 118, 30, 70, 100, 10);
    const auto image = prepare_digit(sketch.grey(0, true));
    INFO(digits);
    CHECK(classes({image.begin(), image.end()}) == std::vector{kNoDigit});
  }
}

}  // namespace mnist
