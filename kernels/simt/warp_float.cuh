// The cpu target's ../lanes/warp_float.cuh: the same arithmetic, with kVectorLanes neighbouring
// lanes as one vector of the processor's, held and worked on by the first thread of these lanes. So
// as many sums stay in registers as on a GPU. Pointers are still those of lane 0.
//
// Why not Highway: all that it would replace here is two intrinsics. On a processor without FMA
// (one before x86-64-v3) every lane of a multiply-add is a library call.
#pragma once

#include <cuda_runtime.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace mnist::MNIST_TARGET {

#if defined(__AVX512F__)
inline constexpr int kVectorLanes = 16;
#elif defined(__AVX__)
inline constexpr int kVectorLanes = 8;
#else
inline constexpr int kVectorLanes = 4;
#endif

typedef float WarpFloat __attribute__((vector_size(kVectorLanes * 4)));
typedef int WarpInt __attribute__((vector_size(kVectorLanes * 4)));
typedef WarpInt WarpBool;  // all ones or zero

namespace warp_detail {

typedef WarpFloat LooseFloats __attribute__((aligned(4)));
typedef uint8_t Bytes __attribute__((vector_size(kVectorLanes)));
typedef Bytes LooseBytes __attribute__((aligned(1)));

__forceinline__ WarpFloat same(float v) {
  return v - WarpFloat{};
}
// The first of this thread's lanes.
__forceinline__ int first_lane() {
  return int(threadIdx.x % 32);
}

}  // namespace warp_detail

// Whether what is the same in all lanes is best loaded some time before it is used.
inline constexpr bool kLoadAhead = false;

// Whether blocks should have many warps (tuning): here, each is more threads to switch between.
inline constexpr bool kManyWarps = false;

inline bool warp_works() {
  return threadIdx.x % kVectorLanes == 0;
}

__forceinline__ WarpFloat warp_load(const float* p, int valid) {
  const int lane = warp_detail::first_lane(), count = valid - lane;
  WarpFloat v{};
  if (count >= kVectorLanes)
    v = *reinterpret_cast<const warp_detail::LooseFloats*>(p + lane);
  else if (count > 0)
    std::memcpy(&v, p + lane, size_t(count) * sizeof(float));
  return v;
}
__forceinline__ WarpInt warp_load(const uint8_t* p, int valid) {
  const int lane = warp_detail::first_lane(), count = valid - lane;
  warp_detail::Bytes v{};
  if (count >= kVectorLanes)
    v = *reinterpret_cast<const warp_detail::LooseBytes*>(p + lane);
  else if (count > 0)
    std::memcpy(&v, p + lane, size_t(count));
  return __builtin_convertvector(v, WarpInt);
}
__forceinline__ void warp_store(float* p, WarpFloat v, int valid) {
  const int lane = warp_detail::first_lane(), count = valid - lane;
  if (count >= kVectorLanes)
    *reinterpret_cast<warp_detail::LooseFloats*>(p + lane) = v;
  else if (count > 0)
    std::memcpy(p + lane, &v, size_t(count) * sizeof(float));
}
__forceinline__ void warp_store(uint8_t* p, WarpInt v, int valid) {
  const int lane = warp_detail::first_lane(), count = valid - lane;
  const auto bytes = __builtin_convertvector(v, warp_detail::Bytes);
  if (count >= kVectorLanes)
    *reinterpret_cast<warp_detail::LooseBytes*>(p + lane) = bytes;
  else if (count > 0)
    std::memcpy(p + lane, &bytes, size_t(count));
}

// a * b + c, rounded once. g++ 12 makes scalars of a row of fmaf, and -ffp-contract=off keeps it
// from fusing a * b + c.
__forceinline__ WarpFloat warp_fma(WarpFloat a, WarpFloat b, WarpFloat c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  WarpFloat v;
  for (int i = 0; i < kVectorLanes; ++i) v[i] = fmaf(a[i], b[i], c[i]);
  return v;
#endif
}
__forceinline__ WarpFloat warp_fma(float a, WarpFloat b, WarpFloat c) {
  return warp_fma(warp_detail::same(a), b, c);
}
__forceinline__ WarpBool is_negative(WarpFloat a) {
  return a < 0.0f;
}
__forceinline__ WarpBool has_bits(WarpInt a, int bits) {
  return (a & bits) != 0;
}

__forceinline__ WarpFloat warp_select(WarpBool which, WarpFloat a, WarpFloat b) {
  return which ? a : b;
}
__forceinline__ WarpFloat warp_select(WarpBool which, float a, float b) {
  return which ? warp_detail::same(a) : warp_detail::same(b);
}
__forceinline__ WarpInt warp_select(WarpBool which, int a, WarpInt b) {
  return which ? a - WarpInt{} : b;
}

// Each working thread has all 32 elements, and does what each lane would.
template <typename T>
class WarpArray {
 public:
  __forceinline__ T& own(int i) { return elements_[i]; }
  __forceinline__ const T& own(int i) const { return elements_[i]; }
  __forceinline__ T at(int i) const { return elements_[i]; }

 private:
  T elements_[32];
};

template <typename F>
__forceinline__ void warp_for_each(const F& f) {
  for (int i = 0; i < 32; ++i) f(i);
}
template <typename F>
__forceinline__ unsigned warp_where(const F& holds) {
  alignas(32) int8_t flags[32];
  for (int i = 0; i < 32; ++i) flags[i] = holds(i) ? -1 : 0;
#if defined(__AVX2__)
  return unsigned(_mm256_movemask_epi8(_mm256_load_si256(reinterpret_cast<const __m256i*>(flags))));
#else
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= unsigned(flags[i] & 1) << i;
  return bits;
#endif
}

template <int kPitch>
__forceinline__ WarpFloat warp_pick(const float* p, WarpInt code) {
  const WarpFloat window = {p[0], p[1], p[kPitch], p[kPitch + 1]};
  return __builtin_shuffle(window, code);
}

}  // namespace mnist::MNIST_TARGET
