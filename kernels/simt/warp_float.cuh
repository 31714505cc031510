// The cpu target's ../lanes/warp_float.cuh: the same arithmetic, with the 32 lanes of a warp as
// vectors of the processor's, held and worked on by the warp's first thread.
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

namespace warp_detail {

#if defined(__AVX512F__)
inline constexpr int kPiece = 16;  // floats in a register
#elif defined(__AVX__)
inline constexpr int kPiece = 8;
#else
inline constexpr int kPiece = 4;
#endif
inline constexpr int kPieces = 32 / kPiece;

typedef float Floats __attribute__((vector_size(kPiece * 4)));
typedef int Ints __attribute__((vector_size(kPiece * 4)));
typedef float LooseFloats __attribute__((vector_size(kPiece * 4), aligned(4)));

// g++ 12 makes scalars of a row of fmaf, and -ffp-contract=off keeps it from fusing a * b + c.
__forceinline__ Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  Floats v;
  for (int i = 0; i < kPiece; ++i) v[i] = fmaf(a[i], b[i], c[i]);
  return v;
#endif
}
__forceinline__ Floats same(float v) {
  return v - Floats{};
}

template <typename Piece>
struct Warp {
  Piece piece[kPieces];
};

}  // namespace warp_detail

using WarpFloat = warp_detail::Warp<warp_detail::Floats>;
using WarpInt = warp_detail::Warp<warp_detail::Ints>;
struct WarpBool {
  warp_detail::Ints piece[warp_detail::kPieces];  // all ones or zero
};

// Accumulators of a warp (tuning): more of them amortise the loads.
inline constexpr int kWarpSums = 24;

inline bool warp_works() {
  return threadIdx.x % 32 == 0;
}

__forceinline__ WarpFloat warp_load(const float* p, int valid) {
  WarpFloat v{};
  if (valid >= 32)
#pragma GCC unroll 8
    for (int i = 0; i < warp_detail::kPieces; ++i)
      v.piece[i] = *reinterpret_cast<const warp_detail::LooseFloats*>(p + i * warp_detail::kPiece);
  else if (valid > 0)
    std::memcpy(&v, p, size_t(valid) * sizeof(float));
  return v;
}
__forceinline__ WarpInt warp_load(const uint8_t* p, int valid) {
  int lanes[32] = {};
  for (int i = 0; i < (valid < 32 ? valid : 32); ++i) lanes[i] = p[i];
  WarpInt v;
  std::memcpy(&v, lanes, sizeof(v));
  return v;
}
__forceinline__ void warp_store(float* p, const WarpFloat& v, int valid) {
  if (valid >= 32)
#pragma GCC unroll 8
    for (int i = 0; i < warp_detail::kPieces; ++i)
      *reinterpret_cast<warp_detail::LooseFloats*>(p + i * warp_detail::kPiece) = v.piece[i];
  else if (valid > 0)
    std::memcpy(p, &v, size_t(valid) * sizeof(float));
}
__forceinline__ void warp_store(uint8_t* p, const WarpInt& v, int valid) {
  int lanes[32];
  std::memcpy(lanes, &v, sizeof(v));
  for (int i = 0; i < (valid < 32 ? valid : 32); ++i) p[i] = uint8_t(lanes[i]);
}

__forceinline__ WarpFloat warp_fma(float a, const WarpFloat& b, const WarpFloat& c) {
  WarpFloat v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i)
    v.piece[i] = warp_detail::fma(warp_detail::same(a), b.piece[i], c.piece[i]);
  return v;
}
__forceinline__ WarpFloat warp_fma(const WarpFloat& a, const WarpFloat& b, const WarpFloat& c) {
  WarpFloat v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i)
    v.piece[i] = warp_detail::fma(a.piece[i], b.piece[i], c.piece[i]);
  return v;
}
__forceinline__ WarpFloat operator+(const WarpFloat& a, const WarpFloat& b) {
  WarpFloat v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i) v.piece[i] = a.piece[i] + b.piece[i];
  return v;
}
__forceinline__ WarpBool operator>(const WarpFloat& a, const WarpFloat& b) {
  WarpBool v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i) v.piece[i] = a.piece[i] > b.piece[i];
  return v;
}
__forceinline__ WarpBool is_negative(const WarpFloat& a) {
  WarpBool v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i) v.piece[i] = a.piece[i] < 0.0f;
  return v;
}
__forceinline__ WarpBool has_bits(const WarpInt& a, int bits) {
  WarpBool v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i) v.piece[i] = (a.piece[i] & bits) != 0;
  return v;
}

__forceinline__ WarpFloat warp_select(const WarpBool& which, const WarpFloat& a,
                                      const WarpFloat& b) {
  WarpFloat v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i)
    v.piece[i] = which.piece[i] ? a.piece[i] : b.piece[i];
  return v;
}
__forceinline__ WarpFloat warp_select(const WarpBool& which, float a, float b) {
  WarpFloat v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i)
    v.piece[i] = which.piece[i] ? warp_detail::same(a) : warp_detail::same(b);
  return v;
}
__forceinline__ WarpInt warp_select(const WarpBool& which, int a, const WarpInt& b) {
  WarpInt v;
#pragma GCC unroll 8
  for (int i = 0; i < warp_detail::kPieces; ++i)
    v.piece[i] = which.piece[i] ? a - warp_detail::Ints{} : b.piece[i];
  return v;
}

}  // namespace mnist::MNIST_TARGET
