// Comparison of a kernel's result with the reference. What is not finite never passes unless it is
// expected. Each function returns an empty text if all is well, else what is wrong:
//   REQUIRE(difference(y, want, {n, p, q, k}) == "");
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/reference.h"

namespace mnist {

using reference::widen;
using Extents = std::vector<int64_t>;

// ---- the extents of an operation's tensors ------------------------------------------------------
inline Extents input_extents(const ConvShape& s) {
  return {s.n, s.h, s.w, s.c};
}
inline Extents filter_extents(const ConvShape& s) {
  return {s.r, s.s, s.c, s.k};
}
inline Extents output_extents(const ConvShape& s) {
  return {s.n, s.p, s.q, s.k};
}
inline Extents input_extents(const PoolShape& s) {
  return {s.n, s.h, s.w, s.c};
}
inline Extents output_extents(const PoolShape& s) {
  return {s.n, s.p, s.q, s.c};
}
inline Extents input_extents(const DenseShape& s) {
  return {s.n, s.in};
}
inline Extents filter_extents(const DenseShape& s) {
  return {s.in, s.out};
}
inline Extents output_extents(const DenseShape& s) {
  return {s.n, s.out};
}

// ---- comparison ---------------------------------------------------------------------------------
// "(0,3,2,1)": the coordinates of element i of a row-major tensor.
inline std::string coordinates(size_t i, const Extents& extents) {
  std::string text;
  for (size_t axis = extents.size(); axis-- > 0;) {
    text = std::to_string(i % size_t(extents[axis])) + (text.empty() ? "" : ",") + text;
    i /= size_t(extents[axis]);
  }
  return "(" + text + ")";
}

namespace detail {

// tolerance(i) is how far actual[i] may be from expected[i]. Reports the first and the worst
// element.
template <typename T, typename Expected, typename Tolerance>
std::string report(const std::vector<T>& actual, const std::vector<Expected>& expected,
                   const Extents& extents, Tolerance tolerance) {
  std::ostringstream text;
  text.precision(9);
  size_t volume = 1;
  for (int64_t extent : extents) volume *= size_t(extent);
  if (actual.size() != expected.size() || actual.size() != volume) {
    text << actual.size() << " elements, expected " << expected.size() << " = " << volume;
    return text.str();
  }
  const auto describe = [&](size_t i) {
    text << coordinates(i, extents) << " is " << double(actual[i]) << ", not "
         << double(expected[i]) << " +- " << tolerance(i);
  };
  size_t wrong = 0, first = 0, worst = 0;
  double worst_ratio = -1;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = double(actual[i]), e = double(expected[i]);
    if (a == e || (std::isnan(a) && std::isnan(e))) continue;
    const bool finite = std::isfinite(a) && std::isfinite(e);
    if (finite && std::fabs(a - e) <= tolerance(i)) continue;
    if (wrong++ == 0) first = i;
    const double ratio =
        finite ? std::fabs(a - e) / tolerance(i) : std::numeric_limits<double>::infinity();
    if (!(ratio <= worst_ratio)) {
      worst_ratio = ratio;
      worst = i;
    }
  }
  if (wrong == 0) return "";
  text << wrong << " of " << actual.size() << " wrong; first ";
  describe(first);
  text << "; worst ";
  describe(worst);
  return text.str();
}

}  // namespace detail

inline constexpr double kFloatEpsilon = std::numeric_limits<float>::epsilon();

// 4 sqrt(length) eps magnitude + 4 eps |value|: what float32 may lose in a sum of that length,
// whatever its order.
inline double rounding_error(const reference::Sums& sums, size_t i) {
  return 4 * kFloatEpsilon *
         (std::sqrt(sums.length) * sums.magnitude[i] + std::fabs(sums.value[i]));
}

// |actual - value| <= rounding_error.
template <typename T>
std::string difference(const std::vector<T>& actual, const reference::Sums& expected,
                       const Extents& extents) {
  return detail::report(actual, expected.value, extents, [&](size_t i) {
    return rounding_error(expected, i) + double(std::numeric_limits<float>::min());
  });
}

// |actual - expected| <= relative * |expected| + absolute.
inline bool near(double actual, double expected, double relative, double absolute = 0) {
  return std::fabs(actual - expected) <= relative * std::fabs(expected) + absolute;
}

// Equal element by element (0 == -0, NaN == NaN).
template <typename T, typename Expected>
std::string inequality(const std::vector<T>& actual, const std::vector<Expected>& expected,
                       const Extents& extents) {
  return detail::report(actual, expected, extents, [](size_t) { return 0.0; });
}

}  // namespace mnist
