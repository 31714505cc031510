// Arithmetic of whole warps, as the GPU runs it. A WarpFloat is 32 floats, one in each lane. It is
// for kernels whose lanes are channels: the warp's addresses, loop bounds and branches are the same
// in all lanes, and the only thing that differs between lanes is which channel they hold.
//
//   const WarpFloat filter = warp_load(w + k, valid);   // lane l: w[k + l], 0 if l >= valid
//   sum = warp_fma(pixel, filter, sum);                 // one pixel for all lanes
//   warp_store(y + k, sum, valid);
//
// The cpu target has its own version, ../simt/warp_float.cuh, in which a WarpFloat is a vector of
// the processor and the first thread of the vector's lanes runs such code for all of them: hence
// `if (warp_works())`. Pointers are those of lane 0; lane i reads and writes element i, if i <
// valid.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mnist::MNIST_TARGET {

struct WarpFloat {
  float lane;
};
struct WarpInt {
  int lane;
};
struct WarpBool {
  bool lane;
};

// Whether what is the same in all lanes is best loaded some time before it is used.
inline constexpr bool kLoadAhead = true;

// Whether blocks should have many warps, to hide their latencies (tuning).
inline constexpr bool kManyWarps = true;

// Whether this thread runs the warp's code; the others go on to the next barrier.
__device__ inline bool warp_works() {
  return true;
}

__device__ inline WarpFloat warp_load(const float* p, int valid) {
  const int lane = threadIdx.x % 32;
  return {lane < valid ? p[lane] : 0.0f};
}
__device__ inline WarpInt warp_load(const uint8_t* p, int valid) {
  const int lane = threadIdx.x % 32;
  return {lane < valid ? p[lane] : 0};
}
__device__ inline void warp_store(float* p, WarpFloat v, int valid) {
  const int lane = threadIdx.x % 32;
  if (lane < valid) p[lane] = v.lane;
}
__device__ inline void warp_store(uint8_t* p, WarpInt v, int valid) {
  const int lane = threadIdx.x % 32;
  if (lane < valid) p[lane] = uint8_t(v.lane);
}

// a * b + c, rounded once.
__device__ inline WarpFloat warp_fma(float a, WarpFloat b, WarpFloat c) {
  return {fmaf(a, b.lane, c.lane)};
}
__device__ inline WarpFloat warp_fma(WarpFloat a, WarpFloat b, WarpFloat c) {
  return {fmaf(a.lane, b.lane, c.lane)};
}
__device__ inline WarpFloat operator+(WarpFloat a, WarpFloat b) {
  return {a.lane + b.lane};
}
__device__ inline WarpBool operator>(WarpFloat a, WarpFloat b) {
  return {a.lane > b.lane};
}
// Lanes in which `v` is negative, NaN excluded.
__device__ inline WarpBool is_negative(WarpFloat v) {
  return {v.lane < 0.0f};
}
__device__ inline WarpBool has_bits(WarpInt v, int bits) {
  return {(v.lane & bits) != 0};
}

__device__ inline WarpFloat warp_select(WarpBool which, WarpFloat a, WarpFloat b) {
  return {which.lane ? a.lane : b.lane};
}
__device__ inline WarpFloat warp_select(WarpBool which, float a, float b) {
  return {which.lane ? a : b};
}
__device__ inline WarpInt warp_select(WarpBool which, int a, WarpInt b) {
  return {which.lane ? a : b.lane};
}

// 32 elements, each of which all lanes can ask for. Lane i holds element i.
template <typename T>
class WarpArray {
 public:
  // Element i of the lane whose number is i.
  __device__ __forceinline__ T& own(int) { return mine_; }
  __device__ __forceinline__ const T& own(int) const { return mine_; }
  // Any element, for all lanes.
  __device__ __forceinline__ T at(int i) const { return __shfl_sync(0xffffffffu, mine_, i); }

 private:
  T mine_;
};

// f(i) by lane i.
template <typename F>
__device__ __forceinline__ void warp_for_each(const F& f) {
  f(int(threadIdx.x % 32));
}
// Bit i: what lane i's holds(i) says.
template <typename F>
__device__ __forceinline__ unsigned warp_where(const F& holds) {
  return __ballot_sync(0xffffffffu, holds(int(threadIdx.x % 32)));
}

// Of a 2x2 window from p on, in rows kPitch apart, the element 2a + b that each lane's code names.
template <int kPitch>
__device__ __forceinline__ WarpFloat warp_pick(const float* p, WarpInt code) {
  return {p[(code.lane >> 1) * kPitch + (code.lane & 1)]};
}

}  // namespace mnist::MNIST_TARGET
