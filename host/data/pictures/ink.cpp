#include "host/data/pictures/ink.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "host/data/pictures/levels.h"
#include "host/data/pictures/pieces.h"

namespace mnist {
namespace {

constexpr int kLightInk = 40;  // levels that light ink is above its paper

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

// A light sheet on something darker, with all that is written on it: 1 where it is. Empty where
// there is none.
Plane find_sheet(const Plane& grey) {
  const Division division = otsu(histogram(grey));
  if (division.low_mean * 3 > division.high_mean * 2) return {};  // shading
  const PixPtr light = where_at_least(grey, division.level);
  const PixPtr holes = owned(pixHolesByFilling(light.get(), 4));
  const PixPtr whole = owned(pixOr(nullptr, light.get(), holes.get()));
  const int shorter = std::min(grey.width, grey.height);
  const int edge = (shorter / 60) | 1;
  const PixPtr inner = owned(pixErodeBrick(nullptr, whole.get(), edge, edge));
  const std::vector<Piece> areas = pieces(inner.get());
  const auto largest = std::max_element(
      areas.begin(), areas.end(), [](const Piece& a, const Piece& b) { return a.area < b.area; });
  if (largest == areas.end() || largest->width * 3 < shorter) return {};
  Plane sheet(grey.width, grey.height);
  for (int y = 0; y < grey.height; ++y)
    for (int x = 0; x < grey.width; ++x) sheet.at(x, y) = largest->has(x, y);
  return sheet;
}

}  // namespace

InkPlane find_ink(const Plane& grey, Ink which) {
  Plane light = grey;  // dark ink on light paper
  const Histogram border = border_levels(grey);
  const int usual = median(border);
  // Drawn on an even background: that is the paper.
  const bool even = border[size_t(usual)] * 4 > 3 * (2 * (grey.width + grey.height) - 4);
  const auto [least, most] = std::minmax_element(grey.pixels.begin(), grey.pixels.end());
  const bool dark_border = usual * 2 < int(*least) + int(*most) && *most - usual >= kLightInk;
  Plane sheet;
  if (dark_border && !even && which != Ink::kLight) sheet = find_sheet(grey);
  if (which == Ink::kLight || (which == Ink::kAuto && dark_border && sheet.pixels.empty()))
    invert(light);
  for (size_t i = 0; i < sheet.pixels.size(); ++i)
    if (!sheet.pixels[i]) light.pixels[i] = 0;

  Plane paper(grey.width, grey.height, uint8_t(median(border_levels(light))));
  if (!even) {
    PixPtr pix = to_pix(light);
    if (grain(light) >= 1.5 && std::min(grey.width, grey.height) > 2)
      pix = owned(pixBlockconvGray(pix.get(), nullptr, 1, 1));
    light = to_plane(pix.get());
    // What the paper would be without the strokes on it: every dark spot that is narrower than a
    // quarter of the picture filled.
    const int window = std::max(3, std::max(grey.width, grey.height) / 4) | 1;
    paper = to_plane(owned(pixCloseGray(pix.get(), window, window)).get());
  }
  InkPlane found{Plane(grey.width, grey.height), {}, 0};
  for (size_t i = 0; i < light.pixels.size(); ++i) {
    const int full = paper.pixels[i], missing = full - light.pixels[i];
    const bool on_paper = sheet.pixels.empty() || sheet.pixels[i];
    if (on_paper && missing > 0) found.ink.pixels[i] = uint8_t((missing * 255 + full / 2) / full);
  }
  if (!even) {
    // The filling follows the lightest grains.
    const int bias = median(histogram(found.ink));
    for (uint8_t& level : found.ink.pixels) level = uint8_t(std::max(0, level - bias));
  }
  found.sheet = std::move(sheet);
  found.noise = int(std::ceil(grain(light) * 255 / std::max(1, median(histogram(paper)))));
  return found;
}

}  // namespace mnist
