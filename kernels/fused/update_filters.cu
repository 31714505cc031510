// The end of a training step: sums the images' gradients, and updates with Adam (adam.cuh) all
// parameters but dense1's filter, which head has updated; in float32, and their FP16 copies.
//
//   g = (sum over the batch's images of what conv_backward left) / kLossScale
//
// and for dense1's bias and the second dense layer, of which head left the sums, those. 8 warps a
// block; what the blocks update:
//   144  the second filter: 16 vectors of 8 halves, in the order of conv2_dw. A lane adds the
//        vectors of 8 images; 16 such sums are then added in order, for two parameters by each of
//        64 lanes.
//    12  the first filter (9), its bias, the second bias (2): 8 vectors of 4 floats; a lane adds 4
//        images, and 32 such sums are added in order.
//     3  the rest: two parameters a lane.
// The parameters and their moments are loaded before the gradients exist.
#include "kernels/adam.cuh"
#include "kernels/fused/conv_backward.cuh"
#include "kernels/fused/packed.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/unrolled.cuh"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {
namespace {

using fused::kChannels1, fused::kChannels2, fused::kClasses, fused::kHidden, fused::kSmallSums;
using fused::kTaps;

constexpr int kWarps = 8, kLanes = kWarps * 32;
// Of a block with sums over images: vectors, and how many lanes add each.
constexpr int kFilterVectors = 16, kFilterGroups = kLanes / kFilterVectors;
constexpr int kSmallVectors = 8, kSmallGroups = kLanes / kSmallVectors;
constexpr int kFilterBlocks = kConv2FilterSize / 8 / kFilterVectors;
constexpr int kSmallBlocks = kSmallSums / 4 / kSmallVectors;
constexpr int kHeadBlocks = (fused::kHeadSums / 2 + kLanes - 1) / kLanes;
constexpr int kSharedBytes = kLanes * 8 * int(sizeof(float));
// A block has elements of one tensor.
static_assert(kTaps * kChannels1 % (kSmallVectors * 4) == 0);
static_assert(kChannels1 % (kSmallVectors * 4) == 0);

// Two neighbouring parameters, from `offset` of the arenas on. 8 bytes a lane; four lanes fill a
// sector.
struct Pair {
  float2 w, m, v;
};
__device__ __forceinline__ Pair load_pair(const FusedMemory& memory, size_t offset) {
  return {*reinterpret_cast<const float2*>(memory.weights + offset),
          *reinterpret_cast<const float2*>(memory.m + offset),
          *reinterpret_cast<const float2*>(memory.v + offset)};
}

struct Adam {
  AdamConstants constants;
  float alpha;

  // Returns the new parameters. g is the gradient times kLossScale.
  __device__ __forceinline__ float2 update(const FusedMemory& memory, size_t offset, Pair pair,
                                           float2 g) const {
    constexpr float kUnscale = 1 / kLossScale;
    adam_update(pair.w.x, pair.m.x, pair.v.x, g.x * kUnscale, alpha, constants);
    adam_update(pair.w.y, pair.m.y, pair.v.y, g.y * kUnscale, alpha, constants);
    *reinterpret_cast<float2*>(memory.weights + offset) = pair.w;
    *reinterpret_cast<float2*>(memory.m + offset) = pair.m;
    *reinterpret_cast<float2*>(memory.v + offset) = pair.v;
    return pair.w;
  }
};

// The sum of kGroups pairs in shared memory, kStride floats apart.
template <int kGroups, int kStride>
__device__ __forceinline__ float2 sum_of_groups(int first) {
  const float* sums = reinterpret_cast<const float*>(dynamic_smem) + first;
  float2 total = make_float2(0, 0);
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const float2 part = *reinterpret_cast<const float2*>(sums + group * kStride);
    total.x += part.x;
    total.y += part.y;
  }
  return total;
}

__device__ __forceinline__ void start() {
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
}

// Shared memory: [group 16][first or second four of a vector][vector 16][4].
__device__ __forceinline__ unsigned update_conv2_filter(const FusedMemory& memory, int batch,
                                                        const Adam& adam, int block) {
  constexpr int kImages = kFusedBatch / kFilterGroups;
  const bool finishes = warp_index() < 2;  // each four of its own of all vectors
  const auto element = [&](int lane) INLINED {
    return conv2_dw_element((block * kFilterVectors + lane / 2) * 8 + warp_index() * 4 +
                            lane % 2 * 2);
  };
  WarpArray<Pair> pairs{};
  if (finishes)
    warp_for_each([&](int lane) INLINED {
      pairs.own(lane) = load_pair(memory, memory.at.conv2_w + size_t(element(lane)));
    });
  start();
  warp_for_each([&](int lane) INLINED {
    const int vector = lane % kFilterVectors, group = warp_index() * 2 + lane / kFilterVectors;
    const uint4* from =
        reinterpret_cast<const uint4*>(memory.conv2_dw) + block * kFilterVectors + vector;
    uint4 halves[kImages];
#pragma unroll
    for (int i = 0; i < kImages; ++i) {
      const int image = group + i * kFilterGroups;
      halves[i] = image < batch ? from[image * (kConv2FilterSize / 8)] : make_uint4(0, 0, 0, 0);
    }
    float sums[8] = {};
#pragma unroll
    for (int i = 0; i < kImages; ++i) {
      const uint32_t words[4] = {halves[i].x, halves[i].y, halves[i].z, halves[i].w};
#pragma unroll
      for (int j = 0; j < 8; ++j) sums[j] += half_to_float(Half(words[j / 2] >> (j % 2 * 16)));
    }
    float4* to = reinterpret_cast<float4*>(dynamic_smem) + group * 2 * kFilterVectors + vector;
    to[0] = make_float4(sums[0], sums[1], sums[2], sums[3]);
    to[kFilterVectors] = make_float4(sums[4], sums[5], sums[6], sums[7]);
  });
  __syncthreads();
  unsigned saturated = 0;
  if (finishes)
    warp_for_each([&](int lane) INLINED {
      const float2 g = sum_of_groups<kFilterGroups, kFilterVectors * 8>(
          warp_index() * kFilterVectors * 4 + lane * 2);
      const int i = element(lane);
      const float2 w = adam.update(memory, memory.at.conv2_w + size_t(i), pairs.own(lane), g);
      pack_conv2(memory, i, w.x, w.y, saturated);
    });
  return saturated;
}

// The first filter and both biases of convolutions. Shared memory: [group 32][vector 8][4].
__device__ __forceinline__ unsigned update_small(const FusedMemory& memory, int batch,
                                                 const Adam& adam, int block) {
  constexpr int kImages = kFusedBatch / kSmallGroups, kFirst = kTaps * kChannels1;
  const int begin = block * kSmallVectors * 4;  // in small_sums
  const bool filter = begin < kFirst;
  const size_t offset = filter ? memory.at.conv1_w + size_t(begin)
                        : begin < kFirst + kChannels1
                            ? memory.at.conv1_b + size_t(begin - kFirst)
                            : memory.at.conv2_b + size_t(begin - kFirst - kChannels1);
  const bool finishes = warp_index() == 0;  // its first half
  WarpArray<Pair> pairs{};
  if (finishes)
    warp_for_each([&](int lane) INLINED {
      if (lane < kSmallVectors * 2) pairs.own(lane) = load_pair(memory, offset + size_t(lane) * 2);
    });
  start();
  warp_for_each([&](int lane) INLINED {
    const int vector = lane % kSmallVectors, group = warp_index() * 4 + lane / kSmallVectors;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < kImages; ++i) {
      const int image = group + i * kSmallGroups;
      if (image >= batch) continue;
      const float4 part =
          reinterpret_cast<const float4*>(memory.small_sums + image * kSmallSums + begin)[vector];
      sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    reinterpret_cast<float4*>(dynamic_smem)[group * kSmallVectors + vector] = sum;
  });
  __syncthreads();
  unsigned saturated = 0;
  if (finishes)
    warp_for_each([&](int lane) INLINED {
      if (lane >= kSmallVectors * 2) return;
      float2 g = sum_of_groups<kSmallGroups, kSmallVectors * 4>(lane * 2);
      if (filter) g = make_float2(g.x * kConv1Scale, g.y * kConv1Scale);
      const float2 w = adam.update(memory, offset + size_t(lane) * 2, pairs.own(lane), g);
      if (filter) pack_conv1(memory, begin + lane * 2, w.x, w.y, saturated);
    });
  return saturated;
}

// Dense1's bias and the second dense layer, whose sums head_sums has in this order.
__device__ __forceinline__ unsigned update_head(const FusedMemory& memory, const Adam& adam,
                                                int block) {
  constexpr int kFilter = kHidden, kBias = kFilter + kHidden * kClasses;
  const auto index = [&](int lane)
                         INLINED { return ((block * kWarps + warp_index()) * 32 + lane) * 2; };
  const auto offset = [&](int i) INLINED {
    return i < kFilter ? memory.at.dense1_b + size_t(i)
           : i < kBias ? memory.at.dense2_w + size_t(i - kFilter)
                       : memory.at.dense2_b + size_t(i - kBias);
  };
  WarpArray<Pair> pairs{};
  WarpArray<float2> sums{};
  warp_for_each([&](int lane) INLINED {
    const int i = index(lane);
    if (i >= fused::kHeadSums) return;
    pairs.own(lane) = load_pair(memory, offset(i));
    sums.own(lane) = *reinterpret_cast<const float2*>(memory.head_sums + i);
  });
  start();
  unsigned saturated = 0;
  warp_for_each([&](int lane) INLINED {
    const int i = index(lane);
    if (i >= fused::kHeadSums) return;
    const float2 w = adam.update(memory, offset(i), pairs.own(lane), sums.own(lane));
    if (i >= kFilter && i < kBias) pack_dense2(memory, i - kFilter, w.x, w.y, saturated);
  });
  return saturated;
}

}  // namespace

// Grid: 159 blocks, see above; block [kWarpThreads, 8].
__global__ void __launch_bounds__(kLanes, 2)
    fused_update_filters_kernel(FusedMemory memory, int batch, AdamConstants constants) {
  const Adam adam{constants, adam_alpha(*memory.state)};
  const int block = int(blockIdx.x), small = block - kFilterBlocks, head = small - kSmallBlocks;
  unsigned saturated = 0;
  if (small < 0)
    saturated = update_conv2_filter(memory, batch, adam, block);
  else if (head < 0)
    saturated = update_small(memory, batch, adam, small);
  else
    saturated = update_head(memory, adam, head);
  add_saturated(*memory.metrics, saturated);
  if (block == 0 && warp_index() == 0)
    warp_for_each([&](int lane) INLINED {
      if (lane == 0) memory.state->iteration += 1;
    });
}

void fused_update_filters(const FusedMemory& memory, int batch, const AdamParams& adam,
                          cudaStream_t stream) {
  CHECK(batch > 0 && batch <= kFusedBatch);
  launch_dependent(fused_update_filters_kernel, dim3(kFilterBlocks + kSmallBlocks + kHeadBlocks),
                   dim3(kWarpThreads, kWarps), kSharedBytes, stream, memory, batch,
                   adam_constants(adam));
}

}  // namespace mnist::MNIST_TARGET
