// How often each grey level occurs.
#pragma once

#include <array>
#include <cstdint>

#include "host/data/pictures/plane.h"

namespace mnist {

using Histogram = std::array<int64_t, 256>;

Histogram histogram(const Plane& plane);
int median(const Histogram& levels);  // 0 of none

struct Division {
  int level = 0;  // the first of the upper class
  double low_mean = 0, high_mean = 0;
};

// The division in two classes with the greatest variance between them: N. Otsu, "A Threshold
// Selection Method from Gray-Level Histograms", 1979.
Division otsu(const Histogram& levels);

}  // namespace mnist
