// How conv_backward leaves the gradient of the second filter, and where its operands lie in shared
// memory: for the kernels and their tests.
#pragma once

#include <cuda_runtime.h>

#include "kernels/fused/conv_tiles.cuh"
#include "kernels/fused/fused.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// ---- FusedMemory::conv2_dw ----------------------------------------------------------------------
// The filter [288][64] of an image, as tiles [tap 9][c / 16][k / 16] of 16x16: of the 256 halves of
// a tile, the first eight are lane 0's in Sums<16>, and so on.
inline constexpr int kConv2FilterSize = fused::kTaps * fused::kChannels1 * fused::kChannels2;
inline constexpr int kConv2TileSize = 16 * 16;

// Where the tile of channels 16 c16 to 16 c16 + 15 and 16 k16 to 16 k16 + 15 begins.
__host__ __device__ constexpr int conv2_dw_tile(int tap, int c16, int k16) {
  return ((tap * 2 + c16) * 4 + k16) * kConv2TileSize;
}
// Which element of the filter, in HWIO, is at `index`. index and index + 1, if index is even, are
// neighbours there too.
__host__ __device__ constexpr int conv2_dw_element(int index) {
  const int tile = index / kConv2TileSize, lane = index / 8 % 32, i = index % 8;
  const int row = lane / 4 + i / 2 % 2 * 8, column = lane % 4 * 2 + i % 2 + i / 4 * 8;
  return (tile / 4 * 16 + row) * fused::kChannels2 + tile % 4 * 16 + column;
}

// ---- shared memory of conv_backward -------------------------------------------------------------
// Offsets in bytes. ldmatrix reads 8 rows of 16 bytes at a time; each layout gives such rows eight
// different slots of 128 bytes, which are all banks.
struct ConvBackwardTile {
  static constexpr int kWarps = 12;

  // a1 [144 positions][32], two positions in 128 bytes. Rows: 8 positions in a row.
  static constexpr int kA1 = 0;
  static __host__ __device__ constexpr int a1(int position, int chunk) {
    return kA1 + position * 64 + ((chunk ^ (position >> 1 & 3)) << 4);
  }

  // Pixels [3][27][4][8]: unit (b, y, s) has the eight of image row y from column 8 b + s on; s = 3
  // is eight ones. So the rows 4 r + s of conv1_w's gradient follow one another. The last products
  // of the second filter's gradient read these in place of positions 144 to 153 of a1, times zero:
  // they have to be finite.
  static constexpr int kPixelRows = 27;
  static constexpr int kPixelUnits = 3 * kPixelRows * 4;
  static constexpr int kPixels = kA1 + fused::kPositions * 64;
  static __host__ __device__ constexpr int pixels(int b, int y, int s) {
    return kPixels + ((b * kPixelRows + y) * 4 + s) * 16;
  }

  static constexpr int kCode2 = kPixels + kPixelUnits * 16;  // [25][64] bytes
  static constexpr int kDa2 = kCode2 + fused::kFlat;         // [25][64] halves

  // What follows lies in one place: first the filter, then what is made after its last use.
  static constexpr int kShared = kDa2 + fused::kFlat * 2;

  // conv2_w [288][64]. Rows: 8 rows.
  static constexpr int kFilter = kShared;
  static __host__ __device__ constexpr int filter(int row, int chunk) {
    return kFilter + full_row_address(row, chunk);
  }
  static constexpr int kFilterEnd = kFilter + fused::kTaps * fused::kChannels1 * 128;

  // dY, the gradient by the second convolution's output, in a frame of zeros: position (y,x) is
  // row 12 y + x, -1 <= y <= 10, -2 <= x <= 11, where x = 10, 11 are also -2, -1 of the next y.
  // Rows: 8 positions in a row, or 4 each of two neighbouring y.
  static constexpr int kFrameBegin = -16, kFrameEnd = 132;
  static constexpr int kDy = kShared;
  static __host__ __device__ constexpr int dy(int position, int chunk) {
    return kDy + full_row_address(position - kFrameBegin, chunk);
  }

  // Each warp's part of the first filter's gradient, [12][rows 4 r + s][16], and the second bias'
  // of each row of windows, [5][64]; floats. The pitch of 24 spreads the stores over the banks.
  static constexpr int kFirstRows = 11, kFirstPitch = 24;
  static constexpr int kFirst = kDy + (kFrameEnd - kFrameBegin) * 128;
  static constexpr int kBias = kFirst + kWarps * kFirstRows * kFirstPitch * 4;

  static constexpr int kBytes = kFilterEnd;
  static_assert(kBias + fused::kSide2 * fused::kChannels2 * 4 <= kBytes);
  static_assert(kBytes <= 65536);
};

}  // namespace mnist::MNIST_TARGET
