// The cpu target's ../lanes/warp_mma.cuh: one thread does the work of a warp. Fragments are float32
// matrices, converted when they are loaded.
#pragma once

#include <cuda_runtime.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "kernels/ptx.cuh"
#include "kernels/simt/warp_float.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kWarpThreads = 1;

__forceinline__ int warp_index() {
  return int(threadIdx.y);
}
__forceinline__ void warp_sync() {}

template <typename F>
__forceinline__ void block_for_each(int count, const F& f) {
  for (int begin = int(threadIdx.y * 32); begin < count; begin += int(blockDim.y * 32))
    for (int i = begin; i < begin + 32 && i < count; ++i) f(i);
}

namespace warp_detail {

// Eight halves as float32.
__forceinline__ void widen(float* to, const void* halves) {
#if defined(__F16C__)
  _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_load_si128(static_cast<const __m128i*>(halves))));
#else
  const Half* from = static_cast<const Half*>(halves);
  for (int i = 0; i < 8; ++i) to[i] = half_to_float(from[i]);
#endif
}

typedef float Floats8 __attribute__((vector_size(32), aligned(32)));
typedef float Floats16 __attribute__((vector_size(64), aligned(64)));

__forceinline__ Floats8 fma(float a, Floats8 b, Floats8 c) {
#if defined(__FMA__)
  return _mm256_fmadd_ps(a - Floats8{}, b, c);
#else
  for (int i = 0; i < 8; ++i) c[i] = fmaf(a, b[i], c[i]);
  return c;
#endif
}
__forceinline__ Floats16 fma(float a, Floats16 b, Floats16 c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a - Floats16{}, b, c);
#else
  Floats8 halves_b[2], halves_c[2];
  std::memcpy(halves_b, &b, sizeof b);
  std::memcpy(halves_c, &c, sizeof c);
  for (int i = 0; i < 2; ++i) halves_c[i] = fma(a, halves_b[i], halves_c[i]);
  std::memcpy(&c, halves_c, sizeof c);
  return c;
#endif
}

}  // namespace warp_detail

class FragA {
 public:
  __forceinline__ void set(int lane, int r, uint32_t pair) {
    float* to = &v[lane / 4 + r % 2 * 8][lane % 4 * 2 + r / 2 * 8];
    to[0] = half_to_float(Half(pair));
    to[1] = half_to_float(Half(pair >> 16));
  }

  alignas(64) float v[16][16];
};

template <int kColumns>
class FragB {
 public:
  __forceinline__ void set(int lane, int r, uint32_t pair) {
    const int k = lane % 4 * 2 + r % 2 * 8, n = lane / 4 + r / 2 * 8;
    v[k][n] = half_to_float(Half(pair));
    v[k + 1][n] = half_to_float(Half(pair >> 16));
  }

  alignas(64) float v[16][kColumns];
};

template <int kColumns>
class Sums {
 public:
  static constexpr int kCount = kColumns / 2;
  static constexpr int row(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
  static constexpr int column(int lane, int i) { return lane % 4 * 2 + i % 2 + i / 4 * 8; }
  __forceinline__ float& at(int lane, int i) { return v[row(lane, i)][column(lane, i)]; }
  __forceinline__ float at(int lane, int i) const { return v[row(lane, i)][column(lane, i)]; }

  alignas(64) float v[16][kColumns] = {};
};

template <typename Row>
__forceinline__ void load_a_row_major(FragA& a, const Row& row) {
  for (int lane = 0; lane < 32; ++lane)
    warp_detail::widen(&a.v[lane % 16][lane / 16 * 8], row(lane));
}
template <typename Row>
__forceinline__ void load_a_col_major(FragA& a, const Row& row) {
  alignas(64) float columns[16][16];
  for (int lane = 0; lane < 32; ++lane)
    warp_detail::widen(&columns[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8], row(lane));
  for (int k = 0; k < 16; ++k)
    for (int m = 0; m < 16; ++m) a.v[m][k] = columns[k][m];
}
template <int kColumns, typename Row>
__forceinline__ void load_b_row_major(FragB<kColumns>& b, const Row& row) {
  for (int lane = 0; lane < 2 * kColumns; ++lane)
    warp_detail::widen(&b.v[lane % 16][lane / 16 * 8], row(lane));
}
template <int kColumns, typename Row>
__forceinline__ void load_b_col_major(FragB<kColumns>& b, const Row& row) {
  alignas(64) float columns[kColumns][16];
  for (int lane = 0; lane < 2 * kColumns; ++lane)
    warp_detail::widen(&columns[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8], row(lane));
  for (int n = 0; n < kColumns; ++n)
    for (int k = 0; k < 16; ++k) b.v[k][n] = columns[n][k];
}

template <int kColumns>
__forceinline__ void mma(Sums<kColumns>& sums, const FragA& a, const FragB<kColumns>& b) {
  using Row = std::conditional_t<kColumns == 8, warp_detail::Floats8, warp_detail::Floats16>;
  static_assert(sizeof(Row) == kColumns * sizeof(float));
  constexpr int kRows = 8;  // at a time, in registers
  for (int m = 0; m < 16; m += kRows) {
    Row acc[kRows];
    for (int i = 0; i < kRows; ++i) acc[i] = *reinterpret_cast<const Row*>(sums.v[m + i]);
    for (int k = 0; k < 16; ++k) {
      const Row row = *reinterpret_cast<const Row*>(b.v[k]);
      for (int i = 0; i < kRows; ++i) acc[i] = warp_detail::fma(a.v[m + i][k], row, acc[i]);
    }
    for (int i = 0; i < kRows; ++i) *reinterpret_cast<Row*>(sums.v[m + i]) = acc[i];
  }
}

}  // namespace mnist::MNIST_TARGET
