// How conv_forward.cu divides its work, and where its operands lie in shared memory.
#pragma once

#include "kernels/fused/conv_tiles.cuh"
#include "kernels/fused/fused.h"

namespace mnist::MNIST_TARGET {

struct ConvForward {
  static constexpr int kWarps = 12;
  static constexpr int kTiles = fused::kPositions / 16;   // of the first convolution
  static constexpr int kChunks1 = fused::kChannels1 / 8;  // of a position's channels
  static constexpr int kTileStep = kWarps / kChunks1;     // between the tiles of a warp
  static constexpr int kCopyWarp = 8;                     // the first of those that copy
  // The warps that copy the biases, between those that copy the filters.
  static constexpr int kBias1Warp = 2, kBias2Warp = 3;
  static constexpr int kLastWindow = fused::kWindows - 1;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kBlocks = 1;
#else
  // As if two blocks shared a multiprocessor: 80 registers leave room for a block of dense_forward,
  // which can so begin beside this one.
  static constexpr int kBlocks = 2;
#endif

  // Shared memory, in bytes.
  static constexpr int kPixelPitch = 64;  // of a row of 28 halves: no bank conflicts
  static constexpr int kCodePitch = fused::kChannels1;
  static constexpr int kPixelsAt = 0;
  static constexpr int kConv1At = kPixelsAt + fused::kSide * kPixelPitch;     // [16] half rows
  static constexpr int kA1At = kConv1At + 16 * 64;                            // half rows
  static constexpr int kCode1At = kA1At + kPositionRows * 64;                 // [144] code rows
  static constexpr int kConv2At = kCode1At + fused::kPositions * kCodePitch;  // [288] full rows
  static constexpr int kBias1At = kConv2At + fused::kTaps * fused::kChannels1 * 128;
  static constexpr int kBias2At = kBias1At + fused::kChannels1 * 4;
  static constexpr int kSharedBytes = kBias2At + fused::kChannels2 * 4;
  static_assert(kSharedBytes <= 65536, "sm_75 has no more");
  static_assert(kA1At % 128 == 0, "slots are chosen by XOR on addresses");

  // Four pieces of 8 codes in a row, of which those of 8 rows in succession do not conflict.
  static __device__ constexpr int code_address(int row, int piece) {
    return row * kCodePitch + (piece ^ (row >> 2 & 3)) * 8;
  }
  // The half row of the filter for element k of the patch of position (a,b); row 7 is zero.
  static __device__ constexpr int filter_row(int k, int a, int b) {
    const int r = k / 4 - a, s = k % 4 - b;
    return r >= 0 && r < 3 && s >= 0 && s < 3 ? 4 * r + s : 7;
  }
  // The elements 2 pair and the next of the patch of window w of the first pooling.
  static __device__ constexpr int pixel_address(int w, int pair) {
    const int row = w / fused::kSide1 * 2 + pair / 2, column = w % fused::kSide1 * 2 + pair % 2 * 2;
    return kPixelsAt + row * kPixelPitch + column * 2;
  }
  // Where the patch of window w of the second pooling begins.
  static __device__ constexpr int patch_row(int w) {
    return position_row(w / fused::kSide2 * 2, w % fused::kSide2 * 2);
  }
};

}  // namespace mnist::MNIST_TARGET
