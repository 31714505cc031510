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

// The pair of two that are not negative. There is no branch, and a float counts, because the units
// that compare and select have more to do than those that add.
__device__ __forceinline__ uint32_t saturated_positive2(float low, float high, float& count) {
  // 1 if v is larger than kLargestHalf, which is by 2^-8 at least; else 0.
  const auto is_larger = [](float v) { return clamp_to_one(fmaf(v, 256, -256 * kLargestHalf)); };
  count += is_larger(low) + is_larger(high);
  return pack_half2(low > kLargestHalf ? kLargestHalf : low,
                    high > kLargestHalf ? kLargestHalf : high);
}

// saturated() for all of a product, and of some.
template <int kColumns>
__device__ __forceinline__ void saturate(Sums<kColumns>& sums, unsigned& count) {
  if (largest_magnitude(sums) > kLargestHalf)
    warp_for_each([&](int lane) INLINED {
      unrolled<Sums<kColumns>::kCount>(
          [&](auto i) INLINED { sums.at(lane, i) = saturated(sums.at(lane, i), count); });
    });
}
template <int kColumns, int kTiles>
__device__ __forceinline__ void saturate(Sums<kColumns> (&tiles)[kTiles], unsigned& count) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kTiles; ++i) largest = fmaxf(largest, largest_magnitude(tiles[i]));
  if (largest > kLargestHalf)  // one branch
    unrolled<kTiles>([&](auto i) INLINED { saturate(tiles[i], count); });
}

// All of a product, as the operand of the next.
__device__ __forceinline__ void saturated_operand(FragA& a, Sums<16>& sums, unsigned& count) {
  saturate(sums, count);
  round_to_halves(a, sums);
}

// Adds what a thread has counted; hardly ever anything.
__device__ __forceinline__ void add_saturated(MetricSums& metrics, unsigned count) {
  if (count != 0) atomicAdd(&metrics.saturated, static_cast<unsigned long long>(count));
}

}  // namespace mnist::MNIST_TARGET
