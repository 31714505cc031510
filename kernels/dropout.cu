// Dropout, forward and backward alike: out[i] = in[i] / (1-rate) if element i is kept, else 0. It
// is kept if uniform01(first word of philox(seed, layer, i, iteration)) >= rate (philox.h), so the
// backward pass draws the mask of the forward pass again instead of storing it. A thread makes four
// vectors of four. The default network has no dropout.
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/philox.h"

namespace mnist::MNIST_TARGET {

// out, in, gate [size]; gate may be null.
__global__ void __launch_bounds__(kBlockSize, 1)
    dropout_kernel(float* out, const float* in, const float* gate, const StepState* state,
                   float rate, float scale, uint64_t seed, uint32_t layer, size_t size) {
  const uint64_t iteration = uint64_t(state->iteration);
  for (int i = 0; i < kVectorsPerThread; ++i) {
    const size_t begin = size_t(vector_index(i)) * 4;
    if (begin >= size) break;
    const int valid = int(min(size - begin, size_t{4}));
    const bool whole = valid == 4;
    const float4 v = load4(in + begin, valid, whole);
    float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const bool kept = uniform01(philox(seed, layer, begin + k, iteration).x) >= rate;
      values[k] = kept ? values[k] * scale : 0.0f;
    }
    float4 result = make_float4(values[0], values[1], values[2], values[3]);
    if (gate != nullptr) result = gated(result, load4(gate + begin, valid, whole));
    store4(out + begin, result, valid, whole);
  }
}

void dropout(float* out, const float* in, const float* gate, const StepState* state, float rate,
             uint64_t seed, uint32_t layer, size_t size, cudaStream_t stream) {
  CHECK(size > 0 && rate >= 0.0f && rate < 1.0f);
  CHECK(out != nullptr && in != nullptr && state != nullptr);
  const float scale = float(1.0 / (1.0 - double(rate)));
  launch(dropout_kernel, vector_grid(ceil_div(size, size_t{4})), dim3(kBlockSize), stream, out, in,
         gate, state, rate, scale, seed, layer, size);
}

}  // namespace mnist::MNIST_TARGET
