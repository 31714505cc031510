// Adam (Kingma, Ba 2015) in Keras' form, one launch over the arena of all parameters:
//   m += (g-m)(1-beta1);  v += (g*g-v)(1-beta2);  w -= alpha * m / (sqrt(v)+eps)
//   alpha = learning_rate * sqrt(1-beta2^t) / (1-beta1^t),  t = updates done before + 1
// Step number and learning rate are read from device memory, since a captured graph would freeze
// arguments. Every block takes a ticket once it has read them; the last one sets up the next
// update.
//
// A thread updates four vectors of four. Default network: 225034 parameters, grid 55, block 256;
// each of w, m, v and g is read, and w, m, v are written, once.
#include <cmath>

#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {
namespace {

// 1 - beta as Keras has it, rounded once from the decimal number: 1 - 0.9f would be 0.10000002f,
// not 0.1f. The nearest number of seven digits is the one that was meant.
float one_minus(float beta) {
  return float(1.0 - std::round(double(beta) * 1e7) / 1e7);
}

// Keras takes the powers in float.
__host__ __device__ float bias_correction(float beta1, float beta2, int64_t t) {
  const float power1 = float(pow(double(beta1), double(t)));
  const float power2 = float(pow(double(beta2), double(t)));
  return sqrtf(1.0f - power2) / (1.0f - power1);
}

}  // namespace

// w, m, v, g [size].
__global__ void __launch_bounds__(kBlockSize, 1)
    adam_kernel(float* w, float* m, float* v, const float* g, StepState* state, AdamParams params,
                float one_minus_beta1, float one_minus_beta2, size_t size) {
  const float alpha = state->learning_rate * state->bias_correction;
  __syncthreads();  // every thread has read *state, which the last block's thread 0 will write
  if (threadIdx.x == 0) {
    __threadfence();  // the block's reads come before its ticket
    if (atomicAdd(&state->ticket, 1u) == gridDim.x - 1) {
      __threadfence();  // all other blocks' reads come before these writes
      state->ticket = 0;
      state->iteration += 1;
      state->bias_correction = bias_correction(params.beta1, params.beta2, state->iteration + 1);
    }
  }

#pragma unroll
  for (int i = 0; i < kVectorsPerThread; ++i) {
    const size_t begin = size_t(vector_index(i)) * 4;
    if (begin >= size) break;
    const int valid = int(min(size - begin, size_t{4}));
    const bool whole = valid == 4;
    const float4 w4 = load4(w + begin, valid, whole), m4 = load4(m + begin, valid, whole);
    const float4 v4 = load4(v + begin, valid, whole), g4 = load4(g + begin, valid, whole);
    float ws[4] = {w4.x, w4.y, w4.z, w4.w}, ms[4] = {m4.x, m4.y, m4.z, m4.w};
    float vs[4] = {v4.x, v4.y, v4.z, v4.w};
    const float gs[4] = {g4.x, g4.y, g4.z, g4.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      ms[k] += (gs[k] - ms[k]) * one_minus_beta1;
      vs[k] += (gs[k] * gs[k] - vs[k]) * one_minus_beta2;
      ws[k] -= alpha * ms[k] / (sqrtf(vs[k]) + params.eps);
    }
    store4(w + begin, make_float4(ws[0], ws[1], ws[2], ws[3]), valid, whole);
    store4(m + begin, make_float4(ms[0], ms[1], ms[2], ms[3]), valid, whole);
    store4(v + begin, make_float4(vs[0], vs[1], vs[2], vs[3]), valid, whole);
  }
}

void adam(float* w, float* m, float* v, const float* g, StepState* state, const AdamParams& params,
          size_t size, cudaStream_t stream) {
  CHECK(size > 0);
  CHECK(params.beta1 >= 0 && params.beta1 < 1 && params.beta2 >= 0 && params.beta2 < 1);
  CHECK(params.eps >= 0);
  CHECK(w != nullptr && m != nullptr && v != nullptr && g != nullptr && state != nullptr);
  launch(adam_kernel, vector_grid(ceil_div(size, size_t{4})), dim3(kBlockSize), stream, w, m, v, g,
         state, params, one_minus(params.beta1), one_minus(params.beta2), size);
}

StepState initial_step_state(int64_t iteration, float learning_rate, const AdamParams& params) {
  return {.iteration = iteration,
          .epoch_begin = 0,
          .samples = 0,
          .ticket = 0,
          .learning_rate = learning_rate,
          .bias_correction = bias_correction(params.beta1, params.beta2, iteration + 1)};
}

}  // namespace mnist::MNIST_TARGET
