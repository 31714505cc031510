// Adds up, in a fixed order, the partial results that blocks computed side by side (split-K): the
// sums over the rows of a matrix, out[c] = sum over r of in[r,c].
//
// A block sums 64 columns. Thread t takes the vector of four columns t % 16 of rows t / 16, t / 16
// + 8, ...; then the 8 sums of a column are added in order by threads 0 to 15. Each partial is read
// once, in whole lines.
//
// Default network, dw of the second convolution: in [128, 18496] (9.5 MB), grid 289, block 128 = 4
// warps, 16 rows a thread. First convolution: in [128, 320], grid 5.
#pragma once

#include "kernels/check.h"
#include "kernels/common.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

struct SumRowsTile {
  static constexpr int kVectors = 16;  // float4: two full lines of 128 bytes
  static constexpr int kRowLanes = 8;
  static constexpr int kThreads = kVectors * kRowLanes;
};

// in [rows, cols]. out.store(col, sums, valid) gets the sums of four columns from `col` on, of
// which `valid` exist.
template <typename Output>
__global__ void __launch_bounds__(SumRowsTile::kThreads, 1)
    sum_rows_kernel(Output out, const float* in, int rows, int cols) {
  using Tile = SumRowsTile;
  __shared__ float4 partial[Tile::kRowLanes][Tile::kVectors];
  const int vector = threadIdx.x % Tile::kVectors, lane = threadIdx.x / Tile::kVectors;
  const int col = (blockIdx.x * Tile::kVectors + vector) * 4, valid = cols - col;
  const bool aligned = cols % 4 == 0;

  float4 sum = make_float4(0, 0, 0, 0);
  // Nothing is tested within the loops, so that the loads of many rows are under way at a time.
  if (valid > 0 && aligned) {
#pragma unroll 16
    for (int row = lane; row < rows; row += Tile::kRowLanes)
      sum = add4(sum, load4(in + int64_t{row} * cols + col, 4, true));
  } else if (valid > 0) {
    for (int row = lane; row < rows; row += Tile::kRowLanes)
      sum = add4(sum, load4(in + int64_t{row} * cols + col, valid, false));
  }
  partial[lane][vector] = sum;
  __syncthreads();  // every thread wrote its sum, lane 0 reads all
  if (lane == 0 && valid > 0) {
    for (int i = 1; i < Tile::kRowLanes; ++i) sum = add4(sum, partial[i][vector]);
    out.store(col, sum, valid);
  }
}

// Sums over the rows of in [rows, cols].
template <typename Output>
void sum_rows(const Output& out, const float* in, int64_t rows, int64_t cols, cudaStream_t stream) {
  CHECK(rows > 0 && rows <= INT32_MAX && cols > 0 && cols <= INT32_MAX - 64);
  const int blocks = ceil_div(int(cols), SumRowsTile::kVectors * 4);
  launch(sum_rows_kernel<Output>, dim3(unsigned(blocks)), dim3(SumRowsTile::kThreads), stream, out,
         in, int(rows), int(cols));
}

}  // namespace mnist::MNIST_TARGET
