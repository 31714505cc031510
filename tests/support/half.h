// FP16 by its definition (IEEE 754 binary16), sharing no code with the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace mnist::test {

inline constexpr double kLargestHalf = 65504;

inline double from_half(uint16_t bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

// The nearest half as a number, ties to even; beyond 65504 in magnitude, 65504. A NaN stays one.
inline double round_to_half(double v) {
  if (std::isnan(v)) return v;
  if (std::abs(v) > kLargestHalf) return std::copysign(kLargestHalf, v);
  int exponent = 0;
  std::frexp(v, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - 11, -24));
  return std::nearbyint(v / unit) * unit;  // the default rounding mode: ties to even
}

// Its bits. v is a half already.
inline uint16_t half_bits(double v) {
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  if (std::isnan(v)) return sign | 0x7e00;
  if (std::isinf(v)) return sign | 0x7c00;
  int exponent = 0;
  const double magnitude = std::abs(v);
  if (magnitude < std::ldexp(1.0, -14)) return sign | uint16_t(std::ldexp(magnitude, 24));
  std::frexp(magnitude, &exponent);
  return sign |
         uint16_t((exponent + 14) << 10 | (int(std::ldexp(magnitude, 11 - exponent)) - 1024));
}

}  // namespace mnist::test
