#include "host/report/ticks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mnist {

Ticks round_ticks(double least, double greatest, int wanted) {
  const double rough = (greatest - least) / wanted;
  const double decade = std::pow(10.0, std::floor(std::log10(rough)));
  Ticks ticks;
  ticks.step = 10 * decade;
  for (const double factor : {5.0, 2.0, 1.0})
    if (factor * decade >= 0.8 * rough) ticks.step = factor * decade;
  // The tolerance: 3 * 0.1 is more than 0.3.
  const double begin = std::floor(least / ticks.step + 1e-6);
  const double end = std::ceil(greatest / ticks.step - 1e-6);
  for (double i = begin; i <= std::max(end, begin + 1); ++i) ticks.values.push_back(i * ticks.step);
  return ticks;
}

std::string tick_text(double value, double step) {
  if (value == 0) return "0";
  if (step >= 1e6 || step < 1e-5) return fmt::format("{:.3g}", value);
  const int decimals = std::max(0, int(std::ceil(-std::log10(step) - 1e-6)));
  return fmt::format("{:.{}f}", value, decimals);
}

}  // namespace mnist
