// Initial weights: Glorot uniform. Integer arithmetic (Philox), one exact conversion to [-1, 1) and
// one rounding, so that all targets agree in every bit.
#include <cmath>

#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/philox.h"

namespace mnist::MNIST_TARGET {

// w [size]. One thread per weight. Default network, first dense layer: 204800 weights, grid 800,
// block 256.
__global__ void __launch_bounds__(kBlockSize, 1)
    glorot_uniform_kernel(float* w, size_t size, float limit, uint64_t seed, uint32_t tensor) {
  const size_t index = size_t(element_index());
  if (index >= size) return;
  w[index] = (2.0f * uniform01(philox(seed, tensor, index, 0).x) - 1.0f) * limit;
}

void glorot_uniform(float* w, size_t size, int64_t fan_in, int64_t fan_out, uint64_t seed,
                    uint32_t tensor, cudaStream_t stream) {
  CHECK(size > 0 && fan_in > 0 && fan_out > 0);
  CHECK(w != nullptr);
  const float limit = float(std::sqrt(6.0 / (double(fan_in) + double(fan_out))));
  launch(glorot_uniform_kernel, elementwise_grid(size), dim3(kBlockSize), stream, w, size, limit,
         seed, tensor);
}

}  // namespace mnist::MNIST_TARGET
