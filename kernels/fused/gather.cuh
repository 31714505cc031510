// Brings a row of a batch as bytes: an image and its label, as normalize() chooses them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/fused/fused.h"
#include "kernels/lanes/lanes.cuh"
#include "kernels/unrolled.cuh"

namespace mnist::MNIST_TARGET {

// Two warps bring a row: 49 lanes 16 pixels each, the next one the label. The memory that they read
// may be the host's, a microsecond away: so there may be a lot of work between load() and store().
class GatheredRow {
 public:
  static constexpr int kWarps = 2;

  // Row `row` of the batch `ahead` of the one that the state is at. Changes nothing.
  __device__ __forceinline__ void load(const FusedSource& from, const StepState& state, int batch,
                                       int ahead, int row) {
    const bool real = row < batch_rows(state, batch, ahead);
    const int64_t source = real ? from.permutation[batch_begin(state, batch, ahead) + row] : 0;
    warp_for_each([&](int lane) INLINED {
      const int i = warp_index() * 32 + lane;
      uint4& piece = pieces_.own(lane);
      piece = make_uint4(0, 0, 0, 0);
      if (real && i < kPieces)
        piece = reinterpret_cast<const uint4*>(from.images + source * fused::kPixels)[i];
      if (real && i == kPieces) piece.x = from.labels[source];
    });
  }

  __device__ __forceinline__ void store(const FusedBatch& to, int row) const {
    warp_for_each([&](int lane) INLINED {
      const int i = warp_index() * 32 + lane;
      const uint4& piece = pieces_.own(lane);
      if (i < kPieces)
        reinterpret_cast<uint4*>(to.pixels + int64_t{row} * fused::kPixels)[i] = piece;
      if (i == kPieces) to.labels[row] = uint8_t(piece.x);
    });
  }

 private:
  static constexpr int kPieces = fused::kPixels / 16;

  WarpArray<uint4> pieces_;
};

}  // namespace mnist::MNIST_TARGET
