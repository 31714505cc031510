// The bias gradient, a sum over rows, tiled and naive, against the reference.
#include "kernels/kernels.h"
#include "tests/compare.h"
#include "tests/device_case.h"
#include "tests/random.h"

namespace mnist::MNIST_TARGET {
namespace {

std::vector<float> run(bool naive, const std::vector<float>& h_dy, int64_t rows, int cols) {
  DeviceCase device;
  const float* dy = device.input(h_dy);
  float* dbias = device.output<float>(size_t(cols));
  float* workspace = device.workspace(naive ? 0 : bias_backward_workspace(rows, cols));
  device.run([&](cudaStream_t stream) {
    if (naive)
      bias_backward_naive(dbias, dy, rows, cols, stream);
    else
      bias_backward(dbias, workspace, dy, rows, cols, stream);
  });
  return device.result(dbias);
}

TEST_CASE("bias_backward", "[bias]") {
  struct Size {
    int64_t rows;
    int cols;
  };
  std::vector<Size> sizes = {{1, 1},     {2 * 26 * 26, 32},  {2 * 11 * 11, 64},
                             {128, 128}, {128, 10},          {4099, 3},
                             {20011, 1}, {600 * 512 + 5, 3}, {3, 1031}};
  for (int64_t rows : {1, 7, 31, 32, 33, 255, 256, 257, 1025})
    for (int cols : {1, 5, 32, 33, 65}) sizes.push_back({rows, cols});
  for (const Size& size : sizes) {
    DYNAMIC_SECTION(size.rows << " rows, " << size.cols << " columns") {
      Random random;
      const size_t count = size_t(size.rows) * size_t(size.cols);
      const auto dy = random.reals(count);
      const auto want = reference::bias_backward(widen(dy), size.rows, size.cols);
      const auto whole_dy = random.whole(count);
      const auto whole_want = reference::bias_backward(widen(whole_dy), size.rows, size.cols);
      for (bool naive : {false, true}) {
        INFO((naive ? "naive" : "tiled"));
        REQUIRE(difference(run(naive, dy, size.rows, size.cols), want, {size.cols}) == "");
        REQUIRE(inequality(run(naive, whole_dy, size.rows, size.cols), whole_want.value,
                           {size.cols}) == "");
      }
    }
  }
}

TEST_CASE("bias_backward refuses impossible sizes", "[bias]") {
  DeviceCase device;
  const float* dy = device.input(std::vector<float>(64));
  float* dbias = device.output<float>(64);
  float* workspace = device.workspace(1 << 16);
  const cudaStream_t stream = device.stream();
  for (int64_t rows : {-1, 0}) {
    REQUIRE_THROWS_AS(bias_backward(dbias, workspace, dy, rows, 4, stream), std::invalid_argument);
    REQUIRE_THROWS_AS(bias_backward_naive(dbias, dy, rows, 4, stream), std::invalid_argument);
  }
  for (int cols : {-1, 0}) {
    REQUIRE_THROWS_AS(bias_backward(dbias, workspace, dy, 4, cols, stream), std::invalid_argument);
    REQUIRE_THROWS_AS(bias_backward_naive(dbias, dy, 4, cols, stream), std::invalid_argument);
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
