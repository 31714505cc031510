// How StepState's powers of beta go on from update to update.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// Sets up the next update. Keras takes the powers in float; products in double are far closer than
// that, and a resumed run repeats them to the bit.
__host__ __device__ inline void set_up_update(StepState& state) {
  state.beta1_power *= double(state.beta1);
  state.beta2_power *= double(state.beta2);
  state.bias_correction =
      sqrtf(1.0f - float(state.beta2_power)) / (1.0f - float(state.beta1_power));
}

}  // namespace mnist::MNIST_TARGET
