// Matrix products of whole warps (kernels/lanes/warp_mma.cuh and its twin): every way to load an
// operand.

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/warp_kernels.h"
#include "tests/support/catch.h"
#include "tests/support/device_case.h"
#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr int kWarps = 2, kK = 32;

// [warps][rows][columns], for the device.
std::vector<Half> halves(const std::vector<double>& matrices, int rows, int columns,
                         TestOperand how) {
  std::vector<Half> bits(matrices.size());
  for (int w = 0; w < kWarps; ++w)
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < columns; ++c)
        bits[size_t(w * rows * columns +
                    (how == TestOperand::kColMajor ? c * rows + r : r * columns + c))] =
            test::half_bits(matrices[size_t((w * rows + r) * columns + c)]);
  return bits;
}

void check(const std::vector<double>& a, const std::vector<double>& b, const std::vector<float>& d,
           int columns, TestOperand how_a, TestOperand how_b) {
  CAPTURE(columns, int(how_a), int(how_b));
  DeviceCase device;
  float* sums = device.in_out(d);
  const Half* left = device.input(halves(a, 16, kK, how_a));
  const Half* right = device.input(halves(b, kK, columns, how_b));
  device.run([&](cudaStream_t stream) {
    test_warp_mma(sums, left, right, columns, how_a, how_b, stream);
  });
  const auto result = device.result(sums);
  for (int i = 0; i < kWarps * 16 * columns; ++i) {
    const int w = i / (16 * columns), m = i / columns, n = i % columns;
    double want = d[size_t(i)], magnitude = std::abs(want);
    float rounded = d[size_t(i)];
    for (int k = 0; k < kK; ++k) {
      const double product = a[size_t(m * kK + k)] * b[size_t((w * kK + k) * columns + n)];
      want += product;
      magnitude += std::abs(product);
      rounded = float(rounded + product);
    }
    CAPTURE(w, m % 16, n, want);
    const double allowed = std::trunc(want) == want ? 0 : std::ldexp(magnitude, -20);
    REQUIRE(std::abs(result[size_t(i)] - want) <= allowed);
#ifdef MNIST_SIMT
    REQUIRE(result[size_t(i)] == rounded);  // k ascending, in both twins
#endif
  }
}

constexpr TestOperand kOperands[] = {TestOperand::kRowMajor, TestOperand::kColMajor,
                                     TestOperand::kSet};

}  // namespace

TEST_CASE("warp_mma: products of whole numbers are exact", "[warp_mma]") {
  for (const int columns : {8, 16}) {
    std::vector<double> a(kWarps * 16 * kK), b(size_t(kWarps * kK * columns));
    std::vector<float> d(size_t(kWarps * 16 * columns));
    for (size_t i = 0; i < a.size(); ++i) a[i] = double(i) - 500;
    for (size_t i = 0; i < b.size(); ++i) b[i] = double(i * 37 % 101) - 50;
    for (size_t i = 0; i < d.size(); ++i) d[i] = float(i) * 100;
    for (const TestOperand how_a : kOperands)
      for (const TestOperand how_b : kOperands) check(a, b, d, columns, how_a, how_b);
  }
}

TEST_CASE("warp_mma: products of any numbers", "[warp_mma]") {
  Random random;
  for (const int columns : {8, 16}) {
    std::vector<double> a(kWarps * 16 * kK), b(size_t(kWarps * kK * columns));
    std::vector<float> d(size_t(kWarps * 16 * columns));
    for (double& v : a) v = test::round_to_half(random.real(-1, 1));
    for (double& v : b) v = test::round_to_half(random.real(-300, 300));
    for (float& v : d) v = random.real(-100, 100);
    for (const TestOperand how_a : kOperands)
      for (const TestOperand how_b : kOperands) check(a, b, d, columns, how_a, how_b);
  }
}

}  // namespace mnist::MNIST_TARGET
