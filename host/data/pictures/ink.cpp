#include "host/data/pictures/ink.h"

#include <algorithm>
#include <array>
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

Histogram border_levels(const Plane& grey) {
  Histogram levels{};
  for (int y = 0; y < grey.height; ++y) {
    const bool whole_row = y == 0 || y == grey.height - 1;
    const int step = whole_row ? 1 : std::max(1, grey.width - 1);
    for (int x = 0; x < grey.width; x += step) ++levels[grey.at(x, y)];
  }
  return levels;
}

bool border_is_dark(const Plane& grey) {
  const auto [least, most] = std::minmax_element(grey.pixels.begin(), grey.pixels.end());
  return median(border_levels(grey)) * 2 < int(*least) + int(*most);
}

// Of grain whose pixels are independent: the median of |a - 2 b + c| is 0.6745 * sqrt(6) times the
// standard deviation.
int grain(const Plane& grey) {
  Histogram steps{};
  for (int y = 0; y < grey.height; ++y)
    for (int x = 2; x < grey.width; ++x)
      ++steps[size_t(
          std::min(255, std::abs(grey.at(x - 2, y) - 2 * grey.at(x - 1, y) + grey.at(x, y))))];
  return int(median(steps) / 1.65 + 0.5);
}

// What the light paper would be without the strokes on it: the picture in small, every dark spot
// narrower than a quarter of it filled.
Plane paper(const Plane& grey) {
  // Drawn on an even background.
  const Histogram border = border_levels(grey);
  const int usual = median(border);
  if (border[size_t(usual)] * 4 > 3 * (2 * (grey.width + grey.height) - 4))
    return Plane(grey.width, grey.height, uint8_t(usual));

  constexpr int kSmall = 96;
  const int longest = std::max(grey.width, grey.height);
  const double scale = longest > kSmall ? double(kSmall) / longest : 1;
  const int width = std::max(1, int(grey.width * scale + 0.5));
  const int height = std::max(1, int(grey.height * scale + 0.5));
  PixPtr small = to_pix(grey);
  if (longest > kSmall) small = owned(pixScaleAreaMapToSize(small.get(), width, height));
  const int window = std::max(width, height) / 4 | 1;
  small = owned(pixCloseGray(small.get(), window, window));
  if (longest <= kSmall) return to_plane(small.get());

  // Bilinear, by pixel centres.
  const Plane closed = to_plane(small.get());
  Plane full(grey.width, grey.height);
  std::vector<float> row(size_t(closed.width));
  const float sx = float(closed.width) / float(grey.width);
  const float sy = float(closed.height) / float(grey.height);
  for (int y = 0; y < full.height; ++y) {
    const float v = std::clamp((float(y) + 0.5f) * sy - 0.5f, 0.0f, float(closed.height - 1));
    const int top = int(v), bottom = std::min(top + 1, closed.height - 1);
    for (int x = 0; x < closed.width; ++x)
      row[size_t(x)] =
          closed.at(x, top) + (v - float(top)) * float(closed.at(x, bottom) - closed.at(x, top));
    for (int x = 0; x < full.width; ++x) {
      const float u = std::clamp((float(x) + 0.5f) * sx - 0.5f, 0.0f, float(closed.width - 1));
      const int left = int(u), right = std::min(left + 1, closed.width - 1);
      full.at(x, y) = uint8_t(row[size_t(left)] +
                              (u - float(left)) * (row[size_t(right)] - row[size_t(left)]) + 0.5f);
    }
  }
  return full;
}

}  // namespace

InkPlane find_ink(const Plane& grey, Ink which) {
  Plane light = grey;  // dark ink on light paper
  if (which == Ink::kLight || (which == Ink::kAuto && border_is_dark(grey)))
    for (uint8_t& level : light.pixels) level = uint8_t(255 - level);
  InkPlane found{Plane(grey.width, grey.height), grain(grey)};
  const Plane white = paper(light);
  for (size_t i = 0; i < light.pixels.size(); ++i) {
    const int full = std::max<int>(1, white.pixels[i]);
    const int missing = std::max(0, full - light.pixels[i]);
    found.ink.pixels[i] = uint8_t((missing * 255 + full / 2) / full);
  }
  return found;
}

}  // namespace mnist
