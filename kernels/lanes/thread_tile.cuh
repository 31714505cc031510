// One thread's accumulators in a matrix product (gemm.cuh), as the GPU runs it. The cpu target has
// its own version, ../simt/thread_tile.cuh, which spells out what g++ would not vectorise by
// itself.
#pragma once

#include <cuda_runtime.h>

namespace mnist::MNIST_TARGET {

// TM x TN sums: TN neighbouring columns of TM rows, and the rows in groups of four neighbours that
// are kGroupStride apart. ThreadTile<8, 8, 32> owns rows 0 to 3 and 32 to 35 of its first element.
template <int TM, int TN, int kGroupStride>
class ThreadTile {
 public:
  static constexpr int kRows = TM, kCols = TN;
  static constexpr __device__ int row(int i) { return i / 4 * kGroupStride + i % 4; }

  // Adds the outer product of a, a column of the first operand, and b, a row of the second. Both
  // point to the tile's first element.
  __device__ void add_product(const float* a, const float* b) {
    float frag_b[TN];
#pragma unroll
    for (int j = 0; j < TN; ++j) frag_b[j] = b[j];
#pragma unroll
    for (int i = 0; i < TM; ++i) {
      const float frag_a = a[row(i)];
#pragma unroll
      for (int j = 0; j < TN; ++j) acc_[i][j] = fmaf(frag_a, frag_b[j], acc_[i][j]);
    }
  }

  // Four neighbours of row i, from column j on; and a sum added to them.
  __device__ float4 at(int i, int j) const {
    return make_float4(acc_[i][j], acc_[i][j + 1], acc_[i][j + 2], acc_[i][j + 3]);
  }
  __device__ void add(int i, int j, float4 v) {
    acc_[i][j] += v.x;
    acc_[i][j + 1] += v.y;
    acc_[i][j + 2] += v.z;
    acc_[i][j + 3] += v.w;
  }

 private:
  float acc_[TM][TN] = {};
};

}  // namespace mnist::MNIST_TARGET
