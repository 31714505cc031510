// The cpu target's ../ptx.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

using Half = uint16_t;  // the bits of an IEEE 754 binary16

__forceinline__ uint32_t pack_half2(float low, float high) {
  const _Float16 halves[2] = {_Float16(low), _Float16(high)};
  uint32_t pair;
  std::memcpy(&pair, halves, sizeof pair);
  return pair;
}
__forceinline__ float half_to_float(Half bits) {
  _Float16 half;
  std::memcpy(&half, &bits, sizeof half);
  return float(half);
}

__forceinline__ void cp_async_16(void* shared, const void* global) {
  std::memcpy(shared, global, 16);
}
__forceinline__ void cp_async_commit() {}
template <int kLater>
__forceinline__ void cp_async_wait() {}

__forceinline__ void griddepcontrol_wait() {}
__forceinline__ void griddepcontrol_launch_dependents() {}

}  // namespace mnist::MNIST_TARGET
