// Sums over the rows of a matrix in a fixed order: bias gradients, and partial results that blocks
// computed side by side. A block sums kRows rows of 32 columns (16 threads take turns on the rows
// of four columns each, then their sums are added in order); with more rows, the blocks' sums are
// the rows of the next pass.
#pragma once

#include <utility>

#include "kernels/check.h"
#include "kernels/common.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

struct SumRowsTile {
  static constexpr int kVectors = 8;  // 8 float4 = 32 columns, one full 128-byte line
  static constexpr int kRowLanes = 16;
  static constexpr int kThreads = kVectors * kRowLanes;
  static constexpr int kRows = 512;
};

__device__ inline float4 add4(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// out [gridDim.y, cols] = the sums of kRows rows each of in [rows, cols].
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    sum_rows_kernel(float* out, const float* in, int64_t rows, int cols) {
  __shared__ float4 partial[Tile::kRowLanes][Tile::kVectors];
  const int vector = threadIdx.x % Tile::kVectors, lane = threadIdx.x / Tile::kVectors;
  const int col = (blockIdx.x * Tile::kVectors + vector) * 4, valid = cols - col;
  const bool aligned = cols % 4 == 0;
  const int64_t begin = int64_t{blockIdx.y} * Tile::kRows, end = min(begin + Tile::kRows, rows);

  float4 sum = make_float4(0, 0, 0, 0);
  for (int64_t row = begin + lane; row < end; row += Tile::kRowLanes)
    if (valid > 0) sum = add4(sum, load4(in + row * cols + col, valid, aligned));
  partial[lane][vector] = sum;
  __syncthreads();  // every thread wrote its sum, lane 0 reads all
  if (lane == 0 && valid > 0) {
    for (int i = 1; i < Tile::kRowLanes; ++i) sum = add4(sum, partial[i][vector]);
    store4(out + int64_t{blockIdx.y} * cols + col, sum, valid, aligned);
  }
}

// Floats of scratch memory that sum_rows needs: the sums of two passes, which take turns.
inline size_t sum_rows_workspace(int64_t rows, int cols) {
  const int64_t first = ceil_div<int64_t>(rows, SumRowsTile::kRows);
  if (first <= 1) return 0;
  const int64_t second = ceil_div<int64_t>(first, SumRowsTile::kRows);
  // Each begins on a 16-byte boundary.
  return size_t(ceil_div<int64_t>(first * cols, 4) + ceil_div<int64_t>(second * cols, 4)) * 4;
}

// out [cols] = the sum over the rows of in [rows, cols].
inline void sum_rows(float* out, float* workspace, const float* in, int64_t rows, int cols,
                     cudaStream_t stream) {
  using Tile = SumRowsTile;
  constexpr int64_t kMaxPassRows = int64_t{65535} * Tile::kRows;
  CHECK(rows > 0 && rows <= kMaxPassRows && cols > 0);
  CHECK(out != nullptr && in != nullptr);
  CHECK(workspace != nullptr || sum_rows_workspace(rows, cols) == 0);
  const int64_t first = ceil_div<int64_t>(rows, Tile::kRows);
  float* sums = workspace;
  float* next_sums = workspace + ceil_div<int64_t>(first * cols, 4) * 4;
  while (true) {
    const int64_t blocks = ceil_div<int64_t>(rows, Tile::kRows);
    const dim3 grid(unsigned(ceil_div(cols, Tile::kVectors * 4)), unsigned(blocks));
    launch(sum_rows_kernel<Tile>, grid, dim3(Tile::kThreads), 0, stream, blocks == 1 ? out : sums,
           in, rows, cols);
    if (blocks == 1) return;
    in = sums;
    rows = blocks;
    std::swap(sums, next_sums);
  }
}

}  // namespace mnist::MNIST_TARGET
