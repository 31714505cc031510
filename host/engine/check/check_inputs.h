// Operands of a case on which two backends must agree.
#pragma once

#include <vector>

#include "host/engine/backends/op_case.h"

namespace mnist::MNIST_TARGET {

// Values for one batch, the same in every run: no two values of x are equal, so that a pooling has
// one winner. dy is as small as training's, for FP16. dy [output] is the gradient before the ReLU
// where the operation ends in one; for a pair it is also zero at windows of the pooling whose
// winner a rounding error could change.
struct CheckInputs {
  std::vector<float> x, weights, dy;
};
CheckInputs check_inputs(Backend& native, const OpCase& op_case, int n);

}  // namespace mnist::MNIST_TARGET
