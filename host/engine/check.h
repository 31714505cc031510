// Whether cuDNN and cuBLAS compute what the kernels of this program compute. Plain C++, no CUDA
// types; the work is in check/.
#pragma once

#include <string>
#include <vector>

#include "host/model/math.h"

namespace mnist {

// How far two backends are apart in one pass of an operation. Every element of a result is a sum of
// products; its difference is divided by its magnitude, the sum of the products' absolute values,
// since rounding in any order of summation is proportional to that. Of a maximum the magnitude is
// the largest absolute value of its window, of a probability itself.
struct OperationDifference {
  std::string name;    // "conv2d_backward_data"
  std::string shape;   // "128x13x13x32 conv:64x3", over batches up to the first number
  double largest = 0;  // over all elements and batches; infinite where something is not finite
  std::string error;   // why the other backend could not run it at all; `largest` is infinite then
};

// FP16 rounds each operand by up to 2^-11 of it, a product's two by 9.8e-4 of the product.
constexpr double backend_tolerance(Math math) {
  return math == Math::kFp16 ? 1e-3 : 1e-5;
}
inline bool agrees(const OperationDifference& difference, Math math = Math::kFp32) {
  return difference.largest <= backend_tolerance(math);
}

// The native backend, in float32, and the cudnn backend in the given arithmetic, both on the GPU.
// Throws Error(kUnavailable) where there is none, or no cuDNN.
std::vector<OperationDifference> check_backends(Math math);

}  // namespace mnist
