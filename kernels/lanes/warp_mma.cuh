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

// A [16,16], of which register r of a lane holds row lane/4 + 8 (r%2), columns 2 (lane%4) + 8 (r/2)
// and the next.
class FragA {
 public:
  __device__ __forceinline__ void set(int, int r, uint32_t pair) { r_[r] = pair; }

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

}  // namespace mnist::MNIST_TARGET
