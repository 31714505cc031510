// Adam (adam.cuh), one launch over the arena of all parameters.
// Learning rate and bias correction are read from device memory, since a captured graph would
// freeze arguments. One thread alone reads and advances the count of updates there, so that no
// block waits for another.
//
// A thread updates one vector of four. Default network: 225034 parameters, grid 220, block 256;
// each of w, m, v and g is read, and w, m, v are written, once.
#include "kernels/adam.cuh"
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/step_state.cuh"

namespace mnist::MNIST_TARGET {

// w, m, v, g [size].
__global__ void __launch_bounds__(kBlockSize, 1)
    adam_kernel(float* w, float* m, float* v, const float* g, StepState* state,
                AdamConstants constants, size_t size) {
  const int64_t index = element_index();
  const size_t begin = size_t(index) * 4;
  if (begin >= size) return;
  const int valid = int(min(size - begin, size_t{4}));
  const bool whole = valid == 4;
  const float4 w4 = load4(w + begin, valid, whole), m4 = load4(m + begin, valid, whole);
  const float4 v4 = load4(v + begin, valid, whole), g4 = load4(g + begin, valid, whole);
  const float alpha = adam_alpha(*state);
  if (index == 0) state->iteration += 1;
  float ws[4] = {w4.x, w4.y, w4.z, w4.w}, ms[4] = {m4.x, m4.y, m4.z, m4.w};
  float vs[4] = {v4.x, v4.y, v4.z, v4.w};
  const float gs[4] = {g4.x, g4.y, g4.z, g4.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) adam_update(ws[k], ms[k], vs[k], gs[k], alpha, constants);
  store4(w + begin, make_float4(ws[0], ws[1], ws[2], ws[3]), valid, whole);
  store4(m + begin, make_float4(ms[0], ms[1], ms[2], ms[3]), valid, whole);
  store4(v + begin, make_float4(vs[0], vs[1], vs[2], vs[3]), valid, whole);
}

void adam(float* w, float* m, float* v, const float* g, StepState* state, const AdamParams& params,
          size_t size, cudaStream_t stream) {
  CHECK(size > 0);
  CHECK(w != nullptr && m != nullptr && v != nullptr && g != nullptr && state != nullptr);
  launch(adam_kernel, elementwise_grid(ceil_div(size, size_t{4})), dim3(kBlockSize), stream, w, m,
         v, g, state, adam_constants(params), size);
}

StepState initial_step_state(int64_t iteration, float learning_rate, const AdamParams& params) {
  StepState state{.iteration = iteration,
                  .epoch_begin = 0,
                  .samples = 0,
                  .learning_rate = learning_rate,
                  .beta1 = params.beta1,
                  .beta2 = params.beta2,
                  .beta1_power = 1,
                  .beta2_power = 1,
                  .bias_correction = 0};
  // A product for each update. In the end each power is 0 or a denormal number that its factor no
  // longer changes: with the default betas after 0.7 million products.
  double power1 = 0, power2 = 0;
  for (int64_t t = 0; t < iteration; ++t) {
    power1 = state.beta1_power;
    power2 = state.beta2_power;
    set_up_update(state);
    if (state.beta1_power == power1 && state.beta2_power == power2) break;
  }
  return state;
}

}  // namespace mnist::MNIST_TARGET
