// Round numbers along an axis.
#pragma once

#include <string>
#include <vector>

namespace mnist {

// Multiples of a step of 1, 2 or 5 times a power of ten, about `wanted` of them, from one at or
// below `least` to one at or above `greatest`. Finite, least < greatest.
struct Ticks {
  double step = 1;
  std::vector<double> values;
  double first() const { return values.front(); }
  double last() const { return values.back(); }
};
Ticks round_ticks(double least, double greatest, int wanted);

// A value with as many decimals as the step has.
std::string tick_text(double value, double step);

}  // namespace mnist
