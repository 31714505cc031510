// Rounding to FP16 that saturates, and the count of what saturated.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/lanes/lanes.cuh"
#include "kernels/ptx.cuh"
#include "kernels/shapes.h"
#include "kernels/target.h"
#include "kernels/unrolled.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr float kLargestHalf = 65504;

// A number beyond kLargestHalf in magnitude becomes that, and adds one to `count`.
__device__ __forceinline__ float saturated(float v, unsigned& count) {
  if (v > kLargestHalf || v < -kLargestHalf) {
    ++count;
    return v < 0.0f ? -kLargestHalf : kLargestHalf;
  }
  return v;
}

// The pair of both as halves. A NaN stays one.
__device__ __forceinline__ uint32_t saturated_half2(float low, float high, unsigned& count) {
  if (fabsf(low) > kLargestHalf || fabsf(high) > kLargestHalf) {
    low = saturated(low, count);
    high = saturated(high, count);
  }
  return pack_half2(low, high);
}

// All of a product, as the operand of the next.
__device__ __forceinline__ void saturated_operand(FragA& a, Sums<16>& sums, unsigned& count) {
  if (largest_magnitude(sums) > kLargestHalf)
    warp_for_each([&](int lane) INLINED {
      unrolled<Sums<16>::kCount>(
          [&](auto i) INLINED { sums.at(lane, i) = saturated(sums.at(lane, i), count); });
    });
  round_to_halves(a, sums);
}

// Adds what a thread has counted; hardly ever anything.
__device__ __forceinline__ void add_saturated(MetricSums& metrics, unsigned count) {
  if (count != 0) atomicAdd(&metrics.saturated, static_cast<unsigned long long>(count));
}

}  // namespace mnist::MNIST_TARGET
