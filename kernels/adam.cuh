// Adam's update of one parameter (Kingma, Ba 2015), in Keras' form:
//   m += (g-m)(1-beta1);  v += (g*g-v)(1-beta2);  w -= alpha * m / (sqrt(v)+eps)
//   alpha = learning_rate * sqrt(1-beta2^t) / (1-beta1^t),  t = updates done before + 1
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "kernels/check.h"
#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

struct AdamConstants {
  float one_minus_beta1, one_minus_beta2, eps;
};

// 1 - beta as Keras has it, rounded once from the decimal number: 1 - 0.9f would be 0.10000002f,
// not 0.1f. The nearest number of seven digits is the one that was meant.
inline float one_minus(float beta) {
  return float(1.0 - std::round(double(beta) * 1e7) / 1e7);
}

inline AdamConstants adam_constants(const AdamParams& params) {
  CHECK(params.beta1 >= 0 && params.beta1 < 1 && params.beta2 >= 0 && params.beta2 < 1);
  CHECK(params.eps >= 0);
  return {one_minus(params.beta1), one_minus(params.beta2), params.eps};
}

// Of the update that the state has been set up for.
__device__ inline float adam_alpha(const StepState& state) {
  return state.learning_rate * state.bias_correction;
}

__device__ inline void adam_update(float& w, float& m, float& v, float g, float alpha,
                                   const AdamConstants& constants) {
  m = fmaf(g - m, constants.one_minus_beta1, m);
  v = fmaf(fmaf(g, g, -v), constants.one_minus_beta2, v);
  w = fmaf(-alpha * m, 1.0f / (sqrtf(v) + constants.eps), w);
}

}  // namespace mnist::MNIST_TARGET
