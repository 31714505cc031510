// exp and log of the kernels against double precision: all floats of the ranges that softmax and
// cross-entropy need, every 61st of all others, and special values.
#include "kernels/exp_log.cuh"

#include <algorithm>
#include <bit>
#include <limits>

#include "tests/support/catch.h"

namespace mnist::MNIST_TARGET {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The distance of neighbouring floats near `value`.
double ulp(double value) {
  const uint64_t exponent = std::bit_cast<uint64_t>(value) & 0x7ff0000000000000;
  return std::max(std::bit_cast<double>(exponent) * 0x1p-23, 0x1p-149);
}

// The largest error in ulp over every `step`-th float from `first` to `last`, away from zero.
template <typename Function, typename Exact>
double worst_error(Function function, Exact exact, float first, float last, uint32_t step = 1) {
  double worst = 0;
  for (uint32_t bits = std::bit_cast<uint32_t>(first); bits <= std::bit_cast<uint32_t>(last);
       bits += step) {
    const float x = std::bit_cast<float>(bits);
    const double want = exact(double(x));
    const double error = std::fabs(double(function(x)) - want);
    if (!(error <= worst * ulp(want))) worst = error / ulp(want);
  }
  return worst;
}

TEST_CASE("exponential is within 1 ulp", "[exp_log]") {
  const auto ours = [](float x) { return exponential(x); };
  const auto exact = [](double x) { return std::exp(x); };
  CHECK(worst_error(ours, exact, -0.25f, -103.9f) <= 0.892);  // with denormal results
  CHECK(worst_error(ours, exact, -0.0f, -0.25f, 61) <= 0.892);
  CHECK(worst_error(ours, exact, 0.0f, 88.72283f, 61) <= 0.892);
}

TEST_CASE("logarithm is within 1 ulp", "[exp_log]") {
  const auto ours = [](float x) { return logarithm(x); };
  const auto exact = [](double x) { return std::log(x); };
  CHECK(worst_error(ours, exact, 1.00000012f, 256.0f) <= 0.883);  // sums of exponentials
  CHECK(worst_error(ours, exact, 0x1p-149f, 0.99999994f, 61) <= 0.883);
  CHECK(worst_error(ours, exact, 256.0f, std::numeric_limits<float>::max(), 61) <= 0.883);
}

TEST_CASE("exponential and logarithm of special values", "[exp_log]") {
  CHECK(exponential(0.0f) == 1.0f);
  CHECK(exponential(-0.0f) == 1.0f);
  CHECK(exponential(-kInfinity) == 0.0f);
  CHECK(exponential(-1e30f) == 0.0f);
  CHECK(exponential(-104.0f) == 0.0f);
  CHECK(exponential(kInfinity) == kInfinity);
  CHECK(exponential(88.7229f) == kInfinity);
  CHECK(std::isnan(exponential(kNan)));
  CHECK(logarithm(1.0f) == 0.0f);
  CHECK(logarithm(0.0f) == -kInfinity);
  CHECK(logarithm(-0.0f) == -kInfinity);
  CHECK(logarithm(kInfinity) == kInfinity);
  CHECK(std::isnan(logarithm(-1.0f)));
  CHECK(std::isnan(logarithm(-0x1p-140f)));
  CHECK(std::isnan(logarithm(-kInfinity)));
  CHECK(std::isnan(logarithm(kNan)));
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
