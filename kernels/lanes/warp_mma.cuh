// Matrix products of whole warps on tensor cores: FP16 operands, float32 sums. The cpu target's
// twin, ../simt/warp_mma.cuh, does a warp's work in one thread. So these kernels are written for
// warps: blocks are dim3(kWarpThreads, warps), what lanes do by themselves stands in
// warp_for_each() or block_for_each(), and what a lane keeps is in a WarpArray, a fragment or a
// tile of sums (warp_float.cuh has the former two).
//
//   FragA a;  FragB<16> b;  Sums<16> sums;
//   load_a_row_major(a, [&](int lane) { return &x[lane % 16][k + 8 * (lane / 16)]; });
//   load_b_row_major(b, [&](int lane) { return &w[k + lane % 16][n + 8 * (lane / 16)]; });
//   mma(sums, a, b);
//   warp_for_each([&](int lane) { ... sums.at(lane, i) ... });
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/lanes/warp_float.cuh"
#include "kernels/ptx.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kWarpThreads = 32;  // threads that run a warp's code: blockDim.x

__device__ __forceinline__ int warp_index() {
  return int(threadIdx.y);
}
__device__ __forceinline__ void warp_sync() {
  __syncwarp();
}

// f(i) for i from 0 to count - 1, by the threads of the block in turn: neighbouring lanes have
// neighbouring i.
template <typename F>
__device__ __forceinline__ void block_for_each(int count, const F& f) {
  for (int i = int(threadIdx.y * 32 + threadIdx.x); i < count; i += int(blockDim.y * 32)) f(i);
}
// f(row, column) for all of a matrix, row after row, by a block of kWarps: unrolled.
template <int kRows, int kColumns, int kWarps, typename F>
__device__ __forceinline__ void block_for_each(const F& f) {
  static_assert(kWarps * 32 % kColumns == 0);
  constexpr int kStep = kWarps * 32 / kColumns;
  const unsigned i = threadIdx.y * 32 + threadIdx.x;
  const int first = int(i / kColumns), column = int(i % kColumns);
#pragma unroll
  for (int row = 0; row < kRows; row += kStep)
    if (row + kStep <= kRows || row + first < kRows) f(row + first, column);
}

// A [16,16], of which register r of a lane holds row lane/4 + 8 (r%2), columns 2 (lane%4) + 8 (r/2)
// and the next.
class FragA {
 public:
  __device__ __forceinline__ void set(int, int r, uint32_t pair) { r_[r] = pair; }
  __device__ __forceinline__ uint32_t pair(int, int r) const { return r_[r]; }

  uint32_t r_[4];
};

// B [16,kColumns], 8 or 16 columns, of which register r of a lane holds rows 2 (lane%4) + 8 (r%2)
// and the next of column lane/4 + 8 (r/2).
template <int kColumns>
class FragB {
 public:
  __device__ __forceinline__ void set(int, int r, uint32_t pair) { r_[r] = pair; }

  uint32_t r_[kColumns / 4];
};

// Sums [16,kColumns]. A lane has kCount of them: at(lane, i) is in row row(lane, i), column
// column(lane, i).
template <int kColumns>
class Sums {
 public:
  static constexpr int kCount = kColumns / 2;
  static __device__ constexpr int row(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
  static __device__ constexpr int column(int lane, int i) {
    return lane % 4 * 2 + i % 2 + i / 4 * 8;
  }
  __device__ __forceinline__ float& at(int, int i) { return d_[i / 4][i % 4]; }
  __device__ __forceinline__ float at(int, int i) const { return d_[i / 4][i % 4]; }

  float d_[kColumns / 8][4] = {};
};

// Operands from shared memory. row(lane) is the address of the 16 bytes, aligned to 16, that hold
//   load_a_row_major   A[m][k .. k+7],  m = lane%16,               k = 8 (lane/16)
//   load_a_col_major   A[m .. m+7][k],  k = lane%8 + 8 (lane/16),  m = 8 (lane/8%2)
//   load_b_row_major   B[k][n .. n+7],  k = lane%16,               n = 8 (lane/16)
//   load_b_col_major   B[k .. k+7][n],  n = lane%8 + 8 (lane/16),  k = 8 (lane/8%2)
// For 8 columns of B, only lanes 0 to 15 are asked.
template <typename Row>
__device__ __forceinline__ void load_a_row_major(FragA& a, const Row& row) {
  ldmatrix_x4(a.r_, row(int(threadIdx.x)));
}
template <typename Row>
__device__ __forceinline__ void load_a_col_major(FragA& a, const Row& row) {
  ldmatrix_x4_trans(a.r_, row(int(threadIdx.x)));
}
template <int kColumns, typename Row>
__device__ __forceinline__ void load_b_row_major(FragB<kColumns>& b, const Row& row) {
  if constexpr (kColumns == 16)
    ldmatrix_x4_trans(b.r_, row(int(threadIdx.x)));
  else
    ldmatrix_x2_trans(b.r_, row(int(threadIdx.x % 16)));
}
template <int kColumns, typename Row>
__device__ __forceinline__ void load_b_col_major(FragB<kColumns>& b, const Row& row) {
  if constexpr (kColumns == 16)
    ldmatrix_x4(b.r_, row(int(threadIdx.x)));
  else
    ldmatrix_x2(b.r_, row(int(threadIdx.x % 16)));
}

// Operands from global memory, or to anywhere, 32 columns of A (or rows of B) at a time: a lane
// brings 16 bytes of two rows (or columns), with no detour by shared memory. That puts them in
// another order: place p, which is column p%16 of fragment p/16, has column spread(p). Both
// operands of a product must have it.
__device__ constexpr int spread(int place) {
  return place % 8 / 2 * 8 + place / 16 * 4 + place / 8 % 2 * 2 + place % 2;
}
// row(m) is the address of A[m][0..31].
template <typename Row>
__device__ __forceinline__ void load_a_spread(FragA (&a)[2], const Row& row) {
  const int g = int(threadIdx.x / 4), t = int(threadIdx.x % 4);
  const uint4 upper = reinterpret_cast<const uint4*>(row(g))[t];
  const uint4 lower = reinterpret_cast<const uint4*>(row(g + 8))[t];
  a[0] = {{upper.x, lower.x, upper.y, lower.y}};
  a[1] = {{upper.z, lower.z, upper.w, lower.w}};
}
// column(n) is the address of B[0..31][n].
template <typename Column>
__device__ __forceinline__ void load_b_spread(FragB<16> (&b)[2], const Column& column) {
  const int g = int(threadIdx.x / 4), t = int(threadIdx.x % 4);
  const uint4 left = reinterpret_cast<const uint4*>(column(g))[t];
  const uint4 right = reinterpret_cast<const uint4*>(column(g + 8))[t];
  b[0] = {{left.x, left.y, right.x, right.y}};
  b[1] = {{left.z, left.w, right.z, right.w}};
}
// piece(m, i) is the address of A[m][8i .. 8i+7].
template <typename Piece>
__device__ __forceinline__ void store_spread(const Piece& piece, const FragA (&a)[2]) {
  const int g = int(threadIdx.x / 4), t = int(threadIdx.x % 4);
  *reinterpret_cast<uint4*>(piece(g, t)) =
      make_uint4(a[0].r_[0], a[0].r_[2], a[1].r_[0], a[1].r_[2]);
  *reinterpret_cast<uint4*>(piece(g + 8, t)) =
      make_uint4(a[0].r_[1], a[0].r_[3], a[1].r_[1], a[1].r_[3]);
}

// sums += a b.
template <int kColumns>
__device__ __forceinline__ void mma(Sums<kColumns>& sums, const FragA& a,
                                    const FragB<kColumns>& b) {
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    const uint32_t tile[2] = {b.r_[2 * j], b.r_[2 * j + 1]};
    mma_m16n8k16(sums.d_[j], a.r_, tile);
  }
}

// sums += more.
template <int kColumns>
__device__ __forceinline__ void add(Sums<kColumns>& sums, const Sums<kColumns>& more) {
#pragma unroll
  for (int i = 0; i < Sums<kColumns>::kCount; ++i) sums.at(0, i) += more.at(0, i);
}

// Zero where the same place of `gate`, of which nothing is negative, is zero.
__device__ __forceinline__ void zero_where_closed(Sums<16>& sums, const FragA& gate) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if ((gate.r_[i / 2] & (i % 2 == 0 ? 0x7fffu : 0x7fff0000u)) == 0) sums.at(0, i) = 0;
}
// The largest magnitude among a lane's sums, on the cpu target among all; a NaN has none.
template <int kColumns>
__device__ __forceinline__ float largest_magnitude(const Sums<kColumns>& sums) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < Sums<kColumns>::kCount; ++i) largest = fmaxf(largest, fabsf(sums.at(0, i)));
  return largest;
}
// a = sums, rounded: what a product made as the operand of the next.
__device__ __forceinline__ void round_to_halves(FragA& a, const Sums<16>& sums) {
#pragma unroll
  for (int r = 0; r < 4; ++r) a.r_[r] = pack_half2(sums.at(0, 2 * r), sums.at(0, 2 * r + 1));
}

// For each of 16x8 sums one of four places, or none: 4. Makes of the sums, rounded, two operands b
// of products whose gemm_k is 4 columns of sums with 4 places each: of sum (m, 2t + e) in place p,
// b[e] has row 2t + p%2 + 8 (p/2) of column m; the rows of its other places are zero.
class Placement {
 public:
  // That of sums.at(lane, i).
  __device__ __forceinline__ void set(int, int i, unsigned place) {
    // prmt()'s digits for two registers of b: the sum's bytes in one half, zeros in the others.
    selectors_[i] = uint32_t(uint64_t{i % 2 == 0 ? 0x54u : 0x76u} << (8 * place));
  }
  __device__ __forceinline__ void move(FragB<16> (&b)[2], const Sums<8>& sums) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t pair = pack_half2(sums.at(0, i / 2 * 2), sums.at(0, i / 2 * 2 + 1));
      b[i % 2].r_[i / 2 * 2] = prmt(0, pair, selectors_[i]);
      b[i % 2].r_[i / 2 * 2 + 1] = prmt(0, pair, selectors_[i] >> 16);
    }
  }

 private:
  uint32_t selectors_[4];
};

// The four lanes of a quad hold what a warp's sums have of a row. Makes each element what
// combine(x, y), which must be commutative, makes of its quad's.
template <typename T, typename Combine>
__device__ __forceinline__ void quad_reduce(WarpArray<T>& v, const Combine& combine) {
  T& mine = v.own(0);
  mine = combine(mine, __shfl_xor_sync(0xffffffffu, mine, 1));
  mine = combine(mine, __shfl_xor_sync(0xffffffffu, mine, 2));
}
// The sum of all elements, for all lanes: halves are added to each other until one is left.
template <typename T>
__device__ __forceinline__ T warp_sum(const WarpArray<T>& v) {
  T sum = v.own(0);
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;
}

}  // namespace mnist::MNIST_TARGET
