// How the convolutions' operands lie in shared memory, so that the eight rows of 16 bytes that
// ldmatrix reads at once fall into the eight different eighths ("slots") of 128 bytes. All
// addresses are in bytes.
#pragma once

#include <cuda_runtime.h>

#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// Rows of 64 halves: chunk 0 to 7 of 8 halves of row `row`.
__host__ __device__ constexpr int full_row_address(int row, int chunk) {
  return row * 128 + (chunk ^ (row & 7)) * 16;
}
// Rows of 32 halves, two of them in 128 bytes: chunk 0 to 3.
__device__ constexpr int half_row_address(int row, int chunk) {
  return full_row_address(row >> 1, (row & 1) << 2 | chunk);
}

// The half row of position (y,x) of the first pooling. The upper left corners of eight pooling
// windows in succession, 5 to a row, are then 0, 1, .. 7 (mod 8) times 128 bytes apart, since
// 13 = 5 (mod 8); and eight positions in succession, 12 to a row, have different slots as well.
__device__ constexpr int position_row(int y, int x) {
  return (13 * y & ~1) + x;
}
inline constexpr int kPositionRows = position_row(11, 11) + 1;

}  // namespace mnist::MNIST_TARGET
