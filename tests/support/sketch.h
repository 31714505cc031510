// Pictures of digits, drawn by the tests: lines of a pen on paper.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "host/data/pictures/plane.h"
#include "tests/support/random.h"

namespace mnist::test {

struct Point {
  double x, y;
};
using Line = std::vector<Point>;

// The lines of a digit in a box of 1 x 1, y downwards; no two of one digit meet.
inline std::vector<Line> digit_lines(int digit) {
  const auto arc = [](double x, double y, double rx, double ry, double from, double to) {
    Line line;
    for (int i = 0; i <= 24; ++i) {
      const double angle = (from + (to - from) * i / 24) * 3.14159265358979 / 180;
      line.push_back({x + rx * std::cos(angle), y + ry * std::sin(angle)});
    }
    return line;
  };
  switch (digit) {
    case 0:
      return {arc(0.5, 0.5, 0.32, 0.5, 0, 360)};
    case 1:
      return {{{0.3, 0.25}, {0.55, 0}, {0.55, 1}}};
    case 2: {
      Line line = arc(0.5, 0.28, 0.32, 0.28, 190, 395);
      line.insert(line.end(), {{0.15, 1}, {0.88, 1}});
      return {line};
    }
    case 3: {
      Line line = arc(0.45, 0.25, 0.33, 0.25, 200, 450);
      const Line low = arc(0.45, 0.74, 0.36, 0.26, 270, 510);
      line.insert(line.end(), low.begin(), low.end());
      return {line};
    }
    case 4:
      return {{{0.6, 0}, {0.1, 0.65}, {0.9, 0.65}}, {{0.65, 0.4}, {0.65, 1}}};
    case 5: {
      Line line = {{0.25, 0.08}, {0.22, 0.45}};
      const Line low = arc(0.45, 0.68, 0.36, 0.3, 230, 510);
      line.insert(line.end(), low.begin(), low.end());
      return {line, {{0.4, 0}, {0.85, 0}}};  // the bar does not meet the rest
    }
    case 6: {
      Line line = {{0.65, 0}, {0.3, 0.35}};
      const Line low = arc(0.5, 0.7, 0.3, 0.3, 190, 560);
      line.insert(line.end(), low.begin(), low.end());
      return {line};
    }
    case 7:
      return {{{0.1, 0}, {0.9, 0}, {0.4, 1}}};
    case 8: {
      Line line = arc(0.5, 0.24, 0.27, 0.24, 90, 450);
      const Line low = arc(0.5, 0.74, 0.33, 0.26, 270, 630);
      line.insert(line.end(), low.begin(), low.end());
      return {line};
    }
    default: {
      Line line = arc(0.5, 0.28, 0.3, 0.28, 0, 360);
      line.insert(line.end(), {{0.8, 0.28}, {0.7, 1}});
      return {line};
    }
  }
}

class Sketch {
 public:
  // `paper`, `ink`: grey levels.
  Sketch(int width, int height, int paper = 255, int ink = 0)
      : light_(size_t(width) * size_t(height), double(paper)),
        dark_(light_.size(), 0),
        width_(width),
        height_(height),
        contrast_(double(paper - ink) / std::max(paper, 1)) {}

  // A pen's line, `thick` pixels wide; darkness 1 is the ink's.
  void line(const Line& points, double thick, double darkness = 1) {
    for (size_t i = 0; i + 1 < points.size(); ++i)
      segment(points[i], points[i + 1], thick, darkness);
  }
  // In the box (x,y,width,height), which the middle of the pen's line touches.
  void digit(int digit, double x, double y, double width, double height, double thick) {
    for (Line points : digit_lines(digit)) {
      for (Point& p : points) p = {x + p.x * width, y + p.y * height};
      line(points, thick);
    }
  }
  // Digits side by side, each `height` tall and 0.7 times as wide, `gap` pixels apart.
  void number(const std::string& digits, double x, double y, double height, double gap,
              double thick) {
    for (const char c : digits) {
      digit(c - '0', x, y, 0.7 * height, height, thick);
      x += 0.7 * height + gap;
    }
  }
  void fill(int x, int y, int width, int height, double light) {
    for (int v = std::max(0, y); v < std::min(height_, y + height); ++v)
      for (int u = std::max(0, x); u < std::min(width_, x + width); ++u) light_[at(u, v)] = light;
  }
  // Light falls off from the upper left corner to the lower right one, down to `least` of it.
  void shade(double least) {
    for (int y = 0; y < height_; ++y)
      for (int x = 0; x < width_; ++x)
        light_[at(x, y)] *= 1 - (1 - least) * (x + y) / (width_ + height_ - 2.0);
  }

  // As a camera sees it; `noise`: half the range of each pixel's error.
  Plane grey(int noise = 0, bool inverted = false) const {
    Random random(1);
    Plane plane(width_, height_);
    for (size_t i = 0; i < light_.size(); ++i) {
      const double error = noise > 0 ? random.real(float(-noise), float(noise)) : 0;
      const double level = light_[i] * (1 - contrast_ * dark_[i]) + error;
      const int rounded = int(std::clamp(level + 0.5, 0.0, 255.0));
      plane.pixels[i] = uint8_t(inverted ? 255 - rounded : rounded);
    }
    return plane;
  }

 private:
  size_t at(int x, int y) const { return size_t(y) * size_t(width_) + size_t(x); }

  void segment(Point a, Point b, double thick, double darkness) {
    const double reach = thick / 2 + 1;
    const double dx = b.x - a.x, dy = b.y - a.y, length2 = std::max(dx * dx + dy * dy, 1e-9);
    const auto within = [](double v, int end) { return std::clamp(int(v), 0, end); };
    const int x0 = within(std::min(a.x, b.x) - reach, width_);
    const int x1 = within(std::max(a.x, b.x) + reach + 1, width_);
    const int y0 = within(std::min(a.y, b.y) - reach, height_);
    const int y1 = within(std::max(a.y, b.y) + reach + 1, height_);
    for (int y = y0; y < y1; ++y)
      for (int x = x0; x < x1; ++x) {
        const double u = x + 0.5 - a.x, v = y + 0.5 - a.y;
        const double along = std::clamp((u * dx + v * dy) / length2, 0.0, 1.0);
        const double distance = std::hypot(u - along * dx, v - along * dy);
        const double covered = std::clamp(thick / 2 + 0.5 - distance, 0.0, 1.0);
        dark_[at(x, y)] = std::max(dark_[at(x, y)], covered * darkness);
      }
  }

  std::vector<double> light_, dark_;  // [height,width]
  int width_, height_;
  double contrast_;
};

}  // namespace mnist::test
