// Device helpers shared by the kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/check.h"
#include "kernels/unrolled.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;
inline constexpr int kBlockSize = 256;  // of elementwise kernels

template <typename T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

// The grid of kBlockSize blocks for `threads` threads, each of which does one element or vector.
inline dim3 elementwise_grid(size_t threads) {
  const size_t blocks = ceil_div(threads, size_t{kBlockSize});
  CHECK(blocks <= INT32_MAX);
  return dim3(unsigned(blocks));
}

// f(i) for the set bits i of a word, the highest first.
template <typename F>
__device__ __forceinline__ void for_each_bit(unsigned bits, const F& f) {
  while (bits != 0) {
    const int i = 31 - __clz(int(bits));
    bits ^= 1u << i;
    f(i);
  }
}

// The index of a thread in such a grid.
__device__ inline int64_t element_index() {
  return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

// The same for kernels whose threads do several vectors of four elements: vector_index(i) for i
// from 0 to kVectorsPerThread - 1. Neighbouring threads take neighbouring vectors.
inline constexpr int kVectorsPerThread = 4;
inline dim3 vector_grid(size_t vectors) {
  return elementwise_grid(ceil_div(vectors, size_t{kVectorsPerThread}));
}
__device__ inline int64_t vector_index(int i) {
  return (int64_t{blockIdx.x} * kVectorsPerThread + i) * blockDim.x + threadIdx.x;
}

// The number of warps, at most `most`, among which `tasks` divide most evenly: 13 tasks go to 7
// warps in two rounds, not to 8.
inline int balanced_warps(int tasks, int most) {
  return ceil_div(tasks, ceil_div(tasks, most));
}

// n / value for 0 <= n < 2^31 by one multiplication: with 2^l >= value, the multiplier
// ceil(2^(31+l) / value) fits 32 bits and its rounding error is too small to reach the quotient.
// (Granlund, Montgomery: "Division by invariant integers using multiplication", PLDI 1994.)
struct Divisor {
  explicit Divisor(int divisor) : value(divisor) {
    while ((uint64_t{1} << (shift - 31)) < uint64_t(divisor)) ++shift;
    multiplier = uint32_t(((uint64_t{1} << shift) + uint64_t(divisor) - 1) / uint64_t(divisor));
  }

  __device__ int quotient(int n) const {
    return int((uint64_t(uint32_t(n)) * multiplier) >> shift);
  }

  int value;
  int shift = 31;
  uint32_t multiplier;
};

// Four neighbours, of which the first `valid` exist and the others read as zero. `aligned` promises
// that all four exist or none, and that p is aligned to their size.
__device__ inline float4 load4(const float* p, int valid, bool aligned) {
  if (aligned) return valid > 0 ? *reinterpret_cast<const float4*>(p) : make_float4(0, 0, 0, 0);
  return make_float4(valid > 0 ? p[0] : 0.0f, valid > 1 ? p[1] : 0.0f, valid > 2 ? p[2] : 0.0f,
                     valid > 3 ? p[3] : 0.0f);
}

__device__ inline uchar4 load4(const uint8_t* p, int valid, bool aligned) {
  if (aligned) return valid > 0 ? *reinterpret_cast<const uchar4*>(p) : make_uchar4(0, 0, 0, 0);
  return make_uchar4(valid > 0 ? p[0] : 0, valid > 1 ? p[1] : 0, valid > 2 ? p[2] : 0,
                     valid > 3 ? p[3] : 0);
}

template <typename T, typename Vector>
__device__ inline void store4(T* p, Vector v, int valid, bool aligned) {
  if (aligned) {
    if (valid > 0) *reinterpret_cast<Vector*>(p) = v;
    return;
  }
  if (valid > 0) p[0] = v.x;
  if (valid > 1) p[1] = v.y;
  if (valid > 2) p[2] = v.z;
  if (valid > 3) p[3] = v.w;
}

__device__ inline float4 add4(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// A NaN stays one, so that a diverged run shows up in the loss.
__device__ inline float relu_of(float v) {
  return v < 0.0f ? 0.0f : v;
}

__device__ inline float4 relu_of(float4 v) {
  return make_float4(relu_of(v.x), relu_of(v.y), relu_of(v.z), relu_of(v.w));
}

// The backward pass of the ReLU that made `gate`.
__device__ inline float gated(float v, float gate) {
  return gate > 0.0f ? v : 0.0f;
}

__device__ inline float4 gated(float4 v, float4 gate) {
  return make_float4(gated(v.x, gate.x), gated(v.y, gate.y), gated(v.z, gate.z),
                     gated(v.w, gate.w));
}

}  // namespace mnist::MNIST_TARGET
