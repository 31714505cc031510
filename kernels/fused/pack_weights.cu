// The FP16 copies of all weights, with the zeros of their paddings: before the first step, and
// whenever weights come from elsewhere than the step.
//
// A thread makes a pair. Default grid 441, block 256 = 8 warps: first the 256 pairs of conv1_w
// [16][32], then the 9216 of conv2_w, 102,400 of dense1_w and 1024 of dense2_w [128][16].
#include "kernels/check.h"
#include "kernels/fused/packed.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

struct PackTile {
  static constexpr int kWarps = 8, kPairs = kWarps * 32;  // of a block
  static constexpr int kConv1 = 16 * fused::kChannels1 / 2;
  static constexpr int kConv2 = fused::kTaps * fused::kChannels1 * fused::kChannels2 / 2;
  static constexpr int kDense1 = fused::kFlat * fused::kHidden / 2;
  static constexpr int kDense2 = fused::kHidden * fused::kPaddedClasses / 2;
  static constexpr int kBlocks = (kConv1 + kConv2 + kDense1 + kDense2) / kPairs;
  static_assert((kConv1 + kConv2 + kDense1 + kDense2) % kPairs == 0);
};

// Pair `pair` of the four copies, one after the other.
__device__ inline void pack_pair(const FusedMemory& memory, int pair, unsigned& saturated) {
  const auto weights = [&](size_t tensor, int i) {
    return *reinterpret_cast<const float2*>(memory.weights + tensor + i);
  };
  if (pair < PackTile::kConv1) {
    constexpr int kPairs = fused::kChannels1 / 2;
    const int row = pair / kPairs, r = row / 4, s = row % 4;
    if (r == 3 || s == 3) return store_half2(memory.conv1_w + 2 * pair, 0);
    const int i = (r * 3 + s) * fused::kChannels1 + pair % kPairs * 2;
    const float2 w = weights(memory.at.conv1_w, i);
    return pack_conv1(memory, i, w.x, w.y, saturated);
  }
  pair -= PackTile::kConv1;
  if (pair < PackTile::kConv2) {
    const float2 w = weights(memory.at.conv2_w, 2 * pair);
    return pack_conv2(memory, 2 * pair, w.x, w.y, saturated);
  }
  pair -= PackTile::kConv2;
  if (pair < PackTile::kDense1) {
    const float2 w = weights(memory.at.dense1_w, 2 * pair);
    return pack_dense1(memory, 2 * pair, w.x, w.y, saturated);
  }
  pair -= PackTile::kDense1;
  constexpr int kPairs = fused::kPaddedClasses / 2;
  const int row = pair / kPairs, column = pair % kPairs * 2;
  if (column >= fused::kClasses) return store_half2(memory.dense2_w + 2 * pair, 0);
  const int i = row * fused::kClasses + column;
  const float2 w = weights(memory.at.dense2_w, i);
  pack_dense2(memory, i, w.x, w.y, saturated);
}

__global__ void fused_pack_weights_kernel(FusedMemory memory) {
  unsigned saturated = 0;
  const int first = int(blockIdx.x) * PackTile::kPairs;
  block_for_each(PackTile::kPairs, [&](int i) { pack_pair(memory, first + i, saturated); });
  add_saturated(*memory.metrics, saturated);
}

void fused_pack_weights(const FusedMemory& memory, cudaStream_t stream) {
  CHECK(memory.weights != nullptr && memory.conv1_w != nullptr && memory.conv2_w != nullptr);
  CHECK(memory.dense1_w != nullptr && memory.dense2_w != nullptr && memory.metrics != nullptr);
  for (size_t at : {memory.at.conv1_w, memory.at.conv2_w, memory.at.dense1_w, memory.at.dense2_w})
    CHECK(at % 4 == 0);
  launch(fused_pack_weights_kernel, dim3(PackTile::kBlocks), dim3(kWarpThreads, PackTile::kWarps),
         stream, memory);
}

}  // namespace mnist::MNIST_TARGET
