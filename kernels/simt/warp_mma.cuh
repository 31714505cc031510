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
#include "kernels/unrolled.cuh"

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
template <int kRows, int kColumns, int kWarps, typename F>
__forceinline__ void block_for_each(const F& f) {
  static_assert(kWarps * 32 % kColumns == 0);
  block_for_each(kRows * kColumns, [&](int i) INLINED { f(i / kColumns, i % kColumns); });
}

namespace warp_detail {

typedef short Halves8 __attribute__((vector_size(16)));

// ---- loads: 8x8 matrices, as ldmatrix has them --------------------------------------------------
__forceinline__ void widen(float* to, Halves8 halves) {
#if defined(__F16C__)
  _mm256_store_ps(to, _mm256_cvtph_ps(reinterpret_cast<__m128i>(halves)));
#else
  for (int i = 0; i < 8; ++i) to[i] = half_to_float(Half(halves[i]));
#endif
}

// Eight floats, rounded.
__forceinline__ void narrow(Half* halves, const float* from) {
#if defined(__F16C__)
  _mm_store_si128(reinterpret_cast<__m128i*>(halves),
                  _mm256_cvtps_ph(_mm256_load_ps(from), _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < 8; i += 2) {
    const uint32_t pair = pack_half2(from[i], from[i + 1]);
    std::memcpy(halves + i, &pair, sizeof pair);
  }
#endif
}

// Three times: neighbours of two rows whose numbers differ in one bit are interleaved.
__forceinline__ void transpose(Halves8 (&rows)[8]) {
  unrolled<3>([&](auto) INLINED {
    Halves8 from[8];
    unrolled<8>([&](auto i) INLINED { from[i] = rows[i]; });
    unrolled<4>([&](auto i) INLINED {
      rows[2 * i] = __builtin_shuffle(from[i], from[i + 4], Halves8{0, 8, 1, 9, 2, 10, 3, 11});
      rows[2 * i + 1] =
          __builtin_shuffle(from[i], from[i + 4], Halves8{4, 12, 5, 13, 6, 14, 7, 15});
    });
  });
}

// The matrix whose rows' addresses lanes `lane` to `lane` + 7 have.
template <bool kTransposed, typename Row>
__forceinline__ void load_matrix(Halves8 (&rows)[8], int lane, const Row& row) {
  unrolled<8>([&](auto i) INLINED {
    rows[i] = *static_cast<const Halves8*>(static_cast<const void*>(row(lane + i)));
  });
  if constexpr (kTransposed) transpose(rows);
}

// All matrices of a fragment, in ldmatrix' order. A row is stored as the products will read it: in
// one piece if they do. Not inlined: a kernel has some fifty, and g++ takes minutes for all in one.
template <bool kTransposed, int kColumns, typename Row>
static __attribute__((noinline)) void load_fragment(float (&to)[16][kColumns], const Row& row) {
  unrolled<2>([&](auto half) INLINED {
    Halves8 left[8], right[8];
    load_matrix<kTransposed>(left, 8 * half, row);
    if constexpr (kColumns == 16) load_matrix<kTransposed>(right, 8 * half + 16, row);
    unrolled<8>([&](auto i) INLINED {
      float* at = to[8 * half + i];
      if constexpr (kColumns == 8) {
        widen(at, left[i]);
      } else {
#if defined(__AVX512F__)
        const __m256i both = _mm256_set_m128i(reinterpret_cast<__m128i>(right[i]),
                                              reinterpret_cast<__m128i>(left[i]));
        // With a mask that masks nothing: g++ 12 warns of the plain form.
        _mm512_store_ps(at, _mm512_maskz_cvtph_ps(__mmask16(-1), both));
#else
        widen(at, left[i]);
        widen(at + 8, right[i]);
#endif
      }
    });
  });
}

// ---- products -----------------------------------------------------------------------------------
template <int kFloats>
struct Vector {
  typedef float Type __attribute__((vector_size(kFloats * 4)));
};

// a * b + c. Products of halves are exact in float32: fused with the sum or not, the bits are the
// same.
template <typename Floats>
__forceinline__ Floats multiply_add(float a, Floats b, Floats c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Floats) == 64) return _mm512_fmadd_ps(a - Floats{}, b, c);
#endif
#if defined(__FMA__)
  if constexpr (sizeof(Floats) == 32) return _mm256_fmadd_ps(a - Floats{}, b, c);
#endif
  return a * b + c;
}

#if defined(__AVX512F__)
inline constexpr int kAccumulators = 16;
#else
inline constexpr int kAccumulators = 8;  // half of the vector registers
#endif

}  // namespace warp_detail

class FragA {
 public:
  __forceinline__ void set(int lane, int r, uint32_t pair) {
    float* to = &v[lane / 4 + r % 2 * 8][lane % 4 * 2 + r / 2 * 8];
    to[0] = half_to_float(Half(pair));
    to[1] = half_to_float(Half(pair >> 16));
  }
  __forceinline__ uint32_t pair(int lane, int r) const {
    const float* from = &v[lane / 4 + r % 2 * 8][lane % 4 * 2 + r / 2 * 8];
    return pack_half2(from[0], from[1]);
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
  warp_detail::load_fragment<false>(a.v, row);
}
template <typename Row>
__forceinline__ void load_a_col_major(FragA& a, const Row& row) {
  warp_detail::load_fragment<true>(a.v, row);
}
template <int kColumns, typename Row>
__forceinline__ void load_b_row_major(FragB<kColumns>& b, const Row& row) {
  warp_detail::load_fragment<false>(b.v, row);
}
template <int kColumns, typename Row>
__forceinline__ void load_b_col_major(FragB<kColumns>& b, const Row& row) {
  warp_detail::load_fragment<true>(b.v, row);
}

constexpr int spread(int place) {
  return place % 8 / 2 * 8 + place / 16 * 4 + place / 8 % 2 * 2 + place % 2;
}

namespace warp_detail {

// 32 halves as pairs, and the pairs in the order of spread(): four rows of four become columns.
typedef uint32_t Pairs __attribute__((vector_size(64)));
__forceinline__ Pairs spread_pairs(const void* halves) {
  Pairs pairs;
  std::memcpy(&pairs, halves, sizeof pairs);
  return __builtin_shuffle(pairs, Pairs{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15});
}

}  // namespace warp_detail

template <typename Row>
__forceinline__ void load_a_spread(FragA (&a)[2], const Row& row) {
  for (int m = 0; m < 16; ++m) {
    const warp_detail::Pairs pairs = warp_detail::spread_pairs(row(m));
    alignas(64) Half halves[32];
    std::memcpy(halves, &pairs, sizeof halves);
    for (int i = 0; i < 4; ++i)
      warp_detail::widen(&a[i / 2].v[m][i % 2 * 8],
                         reinterpret_cast<const warp_detail::Halves8*>(halves)[i]);
  }
}
template <typename Column>
__forceinline__ void load_b_spread(FragB<16> (&b)[2], const Column& column) {
  FragA rows[2];
  load_a_spread(rows, column);
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < 16; ++n) {
      b[0].v[k][n] = rows[0].v[n][k];
      b[1].v[k][n] = rows[1].v[n][k];
    }
}
template <typename Piece>
__forceinline__ void store_spread(const Piece& piece, const FragA (&a)[2]) {
  for (int m = 0; m < 16; ++m) {
    alignas(64) Half halves[32];
    for (int i = 0; i < 4; ++i) warp_detail::narrow(halves + 8 * i, &a[i / 2].v[m][i % 2 * 8]);
    const warp_detail::Pairs natural = warp_detail::spread_pairs(halves);  // its own inverse
    for (int i = 0; i < 4; ++i)
      std::memcpy(piece(m, i), reinterpret_cast<const uint32_t*>(&natural) + 4 * i, 16);
  }
}

// A few rows at a time, whose sums stay in registers; k ascending. Inlined into the unrolled loops
// of a kernel, g++ 12 would load an operand for several products ahead, and spill. `static`: each
// source file has the one that its flags make.
template <int kColumns>
static __attribute__((noinline)) void mma(Sums<kColumns>& sums, const FragA& a,
                                          const FragB<kColumns>& b) {
  constexpr int kFloats = kColumns < kVectorLanes ? kColumns : kVectorLanes;
  constexpr int kVectors = kColumns / kFloats, kRows = warp_detail::kAccumulators / kVectors;
  using Floats = typename warp_detail::Vector<kFloats>::Type;
  unrolled<16 / kRows>([&](auto part) INLINED {
    constexpr int kFirst = part * kRows;
    Floats acc[kRows][kVectors];
    unrolled2<kRows, kVectors>([&](auto i, auto j) INLINED {
      acc[i][j] = *reinterpret_cast<const Floats*>(&sums.v[kFirst + i][j * kFloats]);
    });
    for (int k = 0; k < 16; ++k)
      unrolled2<kRows, kVectors>([&](auto i, auto j) INLINED {
        const auto row = reinterpret_cast<const Floats*>(&b.v[k][j * kFloats]);
        acc[i][j] = warp_detail::multiply_add(a.v[kFirst + i][k], *row, acc[i][j]);
      });
    unrolled2<kRows, kVectors>([&](auto i, auto j) INLINED {
      *reinterpret_cast<Floats*>(&sums.v[kFirst + i][j * kFloats]) = acc[i][j];
    });
  });
}

template <int kColumns>
__forceinline__ void add(Sums<kColumns>& sums, const Sums<kColumns>& more) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < kColumns; ++n) sums.v[m][n] += more.v[m][n];
}

__forceinline__ void zero_where_closed(Sums<16>& sums, const FragA& gate) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) sums.v[m][n] = gate.v[m][n] != 0 ? sums.v[m][n] : 0.0f;
}
template <int kColumns>
__forceinline__ float largest_magnitude(const Sums<kColumns>& sums) {
  using Row = typename warp_detail::Vector<kColumns>::Type;
  Row largest{};
  for (int m = 0; m < 16; ++m) {
    const auto row = *reinterpret_cast<const Row*>(sums.v[m]);
    const auto magnitude = row < 0 ? -row : row;
    largest = magnitude > largest ? magnitude : largest;
  }
  float all = 0;
  for (int n = 0; n < kColumns; ++n) all = fmaxf(all, largest[n]);
  return all;
}
__forceinline__ void round_to_halves(FragA& a, const Sums<16>& sums) {
  for (int m = 0; m < 16; ++m) {
    alignas(32) Half halves[16];
    warp_detail::narrow(halves, sums.v[m]);
    warp_detail::narrow(halves + 8, sums.v[m] + 8);
    warp_detail::widen(a.v[m], reinterpret_cast<const warp_detail::Halves8*>(halves)[0]);
    warp_detail::widen(a.v[m] + 8, reinterpret_cast<const warp_detail::Halves8*>(halves)[1]);
  }
}

class Placement {
 public:
  __forceinline__ void set(int lane, int i, unsigned place) {
    const int column = Sums<8>::column(lane, i);
    rows_[column % 2][column / 2][Sums<8>::row(lane, i)] =
        uint8_t(place < 4 ? column / 2 * 2 + place % 2 + place / 2 * 8 : kNowhere);
  }
  __forceinline__ void move(FragB<16> (&b)[2], const Sums<8>& sums) const {
    alignas(32) Half halves[8];
    alignas(32) float rounded[16][8];
    for (int m = 0; m < 16; ++m) {
      warp_detail::narrow(halves, sums.v[m]);
      warp_detail::widen(rounded[m], *reinterpret_cast<const warp_detail::Halves8*>(halves));
    }
    for (int e = 0; e < 2; ++e) {
      alignas(64) float rows[kNowhere + 1][16] = {};
      for (int t = 0; t < 4; ++t)
        for (int m = 0; m < 16; ++m) rows[rows_[e][t][m]][m] = rounded[m][2 * t + e];
      std::memcpy(b[e].v, rows, sizeof b[e].v);
    }
  }

 private:
  static constexpr int kNowhere = 16;
  uint8_t rows_[2][4][16];  // of b[e], for sum (m, 2t + e)
};

template <typename T, typename Combine>
__forceinline__ void quad_reduce(WarpArray<T>& v, const Combine& combine) {
  for (int lane = 0; lane < 32; lane += 4) {
    const T all =
        combine(combine(v.own(lane), v.own(lane + 1)), combine(v.own(lane + 2), v.own(lane + 3)));
    for (int i = 0; i < 4; ++i) v.own(lane + i) = all;
  }
}
template <typename T>
__forceinline__ T warp_sum(WarpArray<T> v) {
  for (int distance = 16; distance > 0; distance /= 2)
    for (int lane = 0; lane < distance; ++lane) v.own(lane) += v.own(lane + distance);
  return v.own(0);
}

}  // namespace mnist::MNIST_TARGET
