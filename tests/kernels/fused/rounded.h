// FP16 operands for tests, and what a float64 reference has to know of numbers that a kernel rounds
// in between: near a tie a tiny error makes the kernel round to the other side.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::test {

inline constexpr double kShareOfMagnitude = 1e-5;  // what a sum of products may be off

// A number that the kernel may have with this error.
struct Uncertain {
  double value = 0, error = 0;
};

// The half next to it. All halves that the kernel may have come to lie within the error.
inline Uncertain round_to_half(const Uncertain& v) {
  const double value = round_to_half(v.value);
  return {value, std::max(round_to_half(v.value + v.error) - value,
                          value - round_to_half(v.value - v.error))};
}

// A sum of products, with its magnitude.
struct Sum {
  double value = 0, magnitude = 0, error = 0;

  void add(double a, double b) {
    value += a * b;
    magnitude += std::abs(a * b);
  }
  void add(const Uncertain& a, double b) {
    add(a.value, b);
    error += a.error * std::abs(b);
  }
  Uncertain result() const { return {value, error + kShareOfMagnitude * magnitude}; }
};

// Bits of halves, and their values.
inline std::vector<uint16_t> halves_of(const std::vector<float>& values) {
  std::vector<uint16_t> halves(values.size());
  std::transform(values.begin(), values.end(), halves.begin(),
                 [](float v) { return half_bits(round_to_half(double(v))); });
  return halves;
}
inline std::vector<double> values_of(const std::vector<uint16_t>& halves) {
  std::vector<double> values(halves.size());
  std::transform(halves.begin(), halves.end(), values.begin(), from_half);
  return values;
}

// Empty if each number is within its expected one's error; else what is wrong.
template <typename T>
std::string difference(const std::vector<T>& actual, const std::vector<Uncertain>& expected) {
  if (actual.size() != expected.size()) return "sizes differ";
  for (size_t i = 0; i < actual.size(); ++i)
    if (!(std::abs(double(actual[i]) - expected[i].value) <= expected[i].error))
      return "number " + std::to_string(i) + ": " + std::to_string(double(actual[i])) + " not " +
             std::to_string(expected[i].value) + " +- " + std::to_string(expected[i].error);
  return "";
}

inline size_t padded(int batch) {
  return size_t((batch + 15) / 16 * 16);
}

// As a ReLU leaves it: half of it is zero. Rows beyond the batch are zero.
inline std::vector<uint16_t> rectified_halves(Random& random, int batch, int columns,
                                              float most = 2) {
  std::vector<float> values(padded(batch) * size_t(columns));
  for (size_t i = 0; i < size_t(batch) * size_t(columns); ++i)
    values[i] = std::max(0.0f, random.real(-most, most));
  return halves_of(values);
}

}  // namespace mnist::test
