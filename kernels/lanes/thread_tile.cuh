// One thread's accumulators in a matrix product (gemm.cuh), as the GPU runs it. The cpu target has
// its own version, ../simt/thread_tile.cuh, which spells out what g++ would not vectorise by
// itself.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mnist::MNIST_TARGET {

// The tiles of the matrix product (tuning): BM, BN, BK, TM, TN, and how many lanes of a warp lie
// side by side. Two warps each.
template <int kBM, int kBN, int kBK, int kTM, int kTN, int kLanesAcross>
struct GemmTile;                                    // gemm.cuh
using WideTile = GemmTile<64, 64, 16, 8, 8, 4>;     // side by side, 17 KB
using NarrowTile = GemmTile<128, 32, 16, 8, 8, 4>;  // one above the other, 21 KB
using SmallTile = GemmTile<32, 32, 32, 4, 4, 4>;    // side by side, 18 KB

inline constexpr int64_t kEnoughBlocks = 130;  // fewer would leave processors idle

// And those of dense_forward_split (dense.cu): rows and columns of the block's, rows of the
// thread's, slices that a thread sums one after the other.
template <int kBlockRows, int kColumns, int kTM, int kSlicesOfThread>
struct SplitTileOf;
using SplitTile = SplitTileOf<16, 8, 4, 1>;

// TM x TN sums: TN neighbouring columns of TM rows, and the rows in groups of four neighbours that
// are kGroupStride apart. ThreadTile<8, 8, 32> owns rows 0 to 3 and 32 to 35 of its first element.
template <int TM, int TN, int kGroupStride>
class ThreadTile {
 public:
  static constexpr int kRows = TM, kCols = TN;
  static constexpr __device__ int row(int i) { return i / 4 * kGroupStride + i % 4; }

  // Adds, in order, the outer products of kCount columns of the first operand, kStrideA floats
  // apart, and as many rows of the second. Both point to the tile's first element.
  template <int kCount, int kStrideA, int kStrideB>
  __device__ void add_products(const float* a, const float* b) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      float frag_b[TN];
#pragma unroll
      for (int j = 0; j < TN; ++j) frag_b[j] = b[k * kStrideB + j];
#pragma unroll
      for (int i = 0; i < TM; ++i) {
        const float frag_a = a[k * kStrideA + row(i)];
#pragma unroll
        for (int j = 0; j < TN; ++j) acc_[i][j] = fmaf(frag_a, frag_b[j], acc_[i][j]);
      }
    }
  }

  // The same for four columns of the first operand, straight from global memory: a[i] points to row
  // i of them, b to the first row of the second, whose rows are stride_b apart; all are aligned to
  // 16 bytes.
  __device__ void add_four_products(const float* const (&a)[TM], const float* b, int stride_b) {
    static_assert(TN % 4 == 0);
    float rows_a[TM][4], rows_b[4][TN];
#pragma unroll
    for (int i = 0; i < TM; ++i) load_vector(rows_a[i], a[i]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int j = 0; j < TN; j += 4) load_vector(&rows_b[k][j], b + int64_t{k} * stride_b + j);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < TM; ++i) {
#pragma unroll
        for (int j = 0; j < TN; ++j) acc_[i][j] = fmaf(rows_a[i][k], rows_b[k][j], acc_[i][j]);
      }
    }
  }

  __device__ void add(const ThreadTile& other) {
#pragma unroll
    for (int i = 0; i < TM; ++i) {
#pragma unroll
      for (int j = 0; j < TN; ++j) acc_[i][j] += other.acc_[i][j];
    }
  }

  // Four neighbours of row i, from column j on.
  __device__ float4 at(int i, int j) const {
    return make_float4(acc_[i][j], acc_[i][j + 1], acc_[i][j + 2], acc_[i][j + 3]);
  }

 private:
  static __device__ void load_vector(float* to, const float* from) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  }

  float acc_[TM][TN] = {};
};

}  // namespace mnist::MNIST_TARGET
