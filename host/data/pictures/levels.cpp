#include "host/data/pictures/levels.h"

namespace mnist {

Histogram histogram(const Plane& plane) {
  Histogram levels{};
  for (const uint8_t level : plane.pixels) ++levels[level];
  return levels;
}

int median(const Histogram& levels) {
  int64_t total = 0, below = 0;
  for (const int64_t count : levels) total += count;
  for (int level = 0; level < 256; ++level)
    if ((below += levels[size_t(level)]) * 2 > total) return level;
  return 0;
}

Division otsu(const Histogram& levels) {
  double total = 0, sum = 0;
  for (int i = 0; i < 256; ++i) {
    total += double(levels[size_t(i)]);
    sum += i * double(levels[size_t(i)]);
  }
  double below = 0, below_sum = 0, best = -1;
  Division division;
  for (int i = 0; i < 255; ++i) {
    below += double(levels[size_t(i)]);
    below_sum += i * double(levels[size_t(i)]);
    const double above = total - below;
    if (below == 0 || above == 0) continue;
    const double low = below_sum / below, high = (sum - below_sum) / above;
    const double between = below * above * (high - low) * (high - low);
    if (between > best) {
      best = between;
      division = {i + 1, low, high};
    }
  }
  return division;
}

}  // namespace mnist
