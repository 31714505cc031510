#include "host/data/pictures/ink.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace mnist {
namespace {

using Histogram = std::array<int64_t, 256>;

int median(const Histogram& histogram) {
  int64_t total = 0, below = 0;
  for (const int64_t count : histogram) total += count;
  for (int level = 0; level < 256; ++level)
    if ((below += histogram[size_t(level)]) * 2 > total) return level;
  return 0;
}

int median(const Plane& plane) {
  Histogram levels{};
  for (const uint8_t level : plane.pixels) ++levels[level];
  return median(levels);
}

Histogram border_levels(const Plane& grey) {
  Histogram levels{};
  for (int y = 0; y < grey.height; ++y) {
    const bool whole_row = y == 0 || y == grey.height - 1;
    const int step = whole_row ? 1 : std::max(1, grey.width - 1);
    for (int x = 0; x < grey.width; x += step) ++levels[grey.at(x, y)];
  }
  return levels;
}

// Of grain whose pixels are independent: the median of |a - 2 b + c| is 0.6745 * sqrt(6) times the
// standard deviation.
double grain(const Plane& grey) {
  Histogram steps{};
  for (int y = 0; y < grey.height; ++y)
    for (int x = 2; x < grey.width; ++x)
      ++steps[size_t(
          std::min(255, std::abs(grey.at(x - 2, y) - 2 * grey.at(x - 1, y) + grey.at(x, y))))];
  return median(steps) / 1.65;
}

void invert(Plane& plane) {
  for (uint8_t& level : plane.pixels) level = uint8_t(255 - level);
}

// The largest light area, where it is a sheet on something darker: its pixels, else none.
Plane sheet(const Plane& grey) {
  (void)grey;
  return {};
}

}  // namespace

InkPlane find_ink(const Plane& grey, Ink which) {
  Plane light = grey;  // dark ink on light paper
  const Histogram border = border_levels(grey);
  const auto [least, most] = std::minmax_element(grey.pixels.begin(), grey.pixels.end());
  const bool border_is_dark = median(border) * 2 < int(*least) + int(*most);
  if (which == Ink::kLight || (which == Ink::kAuto && border_is_dark)) invert(light);

  InkPlane found{Plane(grey.width, grey.height), 0};
  // Drawn on an even background: that is the paper.
  const Histogram light_border = border_levels(light);
  const int usual = median(light_border);
  const bool even = light_border[size_t(usual)] * 4 > 3 * (2 * (grey.width + grey.height) - 4);
  Plane paper(even ? Plane(grey.width, grey.height, uint8_t(usual)) : Plane());
  if (!even) {
    PixPtr pix = to_pix(light);
    if (grain(light) >= 1.5) pix = owned(pixBlockconvGray(pix.get(), nullptr, 1, 1));
    light = to_plane(pix.get());
    // What the paper would be without the strokes on it: every dark spot that is narrower than a
    // quarter of the picture filled.
    const int window = std::max(3, std::max(grey.width, grey.height) / 4) | 1;
    paper = to_plane(owned(pixCloseGray(pix.get(), window, window)).get());
  }
  for (size_t i = 0; i < light.pixels.size(); ++i) {
    const int full = std::max<int>(1, paper.pixels[i]);
    const int missing = std::max(0, full - light.pixels[i]);
    found.ink.pixels[i] = uint8_t((missing * 255 + full / 2) / full);
  }
  if (!even) {
    // The filling follows the lightest grains.
    const int bias = median(found.ink);
    for (uint8_t& level : found.ink.pixels) level = uint8_t(std::max(0, level - bias));
  }
  found.noise = int(std::ceil(grain(light) * 255 / std::max(1, median(paper))));
  return found;
}

}  // namespace mnist
