// The FP16 copies of the weights: where an element of a float32 tensor has its copy, and how it is
// rounded. fused_pack_weights and the kernels that update the weights use nothing else, so that the
// same weights have the same copies.
//
//   pack_X(memory, i, w0, w1, saturated)   the elements i and i + 1 of tensor X are w0 and w1;
//                                          i is even. What becomes 65504 is counted.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/fused/fused.h"
#include "kernels/fused/half.cuh"

namespace mnist::MNIST_TARGET {

// A pixel u stands for u / 255, and the kernels multiply by u / 256, which is exact in FP16.
inline constexpr float kConv1Scale = 256.0f / 255.0f;

__device__ __forceinline__ void store_half2(Half* to, uint32_t pair) {
  *reinterpret_cast<uint32_t*>(to) = pair;
}

// [9][32]
__device__ __forceinline__ void pack_conv1(const FusedMemory& memory, int i, float w0, float w1,
                                           unsigned& saturated) {
  const int tap = i / fused::kChannels1, row = tap / 3 * 4 + tap % 3;
  store_half2(memory.conv1_w + row * fused::kChannels1 + i % fused::kChannels1,
              saturated_half2(w0 * kConv1Scale, w1 * kConv1Scale, saturated));
}
// [288][64]
__device__ __forceinline__ void pack_conv2(const FusedMemory& memory, int i, float w0, float w1,
                                           unsigned& saturated) {
  store_half2(memory.conv2_w + i, saturated_half2(w0, w1, saturated));
}
// [1600][128]
__device__ __forceinline__ void pack_dense1(const FusedMemory& memory, int i, float w0, float w1,
                                            unsigned& saturated) {
  store_half2(memory.dense1_w + i, saturated_half2(w0, w1, saturated));
}
// [128][10]
__device__ __forceinline__ void pack_dense2(const FusedMemory& memory, int i, float w0, float w1,
                                            unsigned& saturated) {
  store_half2(memory.dense2_w + i / fused::kClasses * fused::kPaddedClasses + i % fused::kClasses,
              saturated_half2(w0, w1, saturated));
}

}  // namespace mnist::MNIST_TARGET
