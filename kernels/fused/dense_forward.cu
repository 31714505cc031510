// The first dense layer: h [n,128] = relu(a2 [n,1600] w + bias), and beside it, in training, what
// else has to happen by then: the next batch is gathered, the update is set up.
//
// A block makes a tile of 16 rows and 8 columns; its ten warps split gemm_k = 1600 (5 x 32 each),
// and their sums are added in order. Default batch: 8 x 16 blocks.
//
//            k: 32 columns of a2, a group          w, a slot of 16 bytes for each k:
//   lane     4g    4g+1   4g+2   4g+3              slot p of the group has row spread(p),
//   row g   |16 B |16 B  |16 B  |16 B  |           so that ldmatrix reads 128 bytes in a row
//
// Neither operand waits for a block barrier. The slice of w, 25 KB, arrives before a2 exists; each
// warp brings the 160 rows of it that it needs. a2 goes from L2 to registers, in the order that
// 16-byte loads give (spread, warp_mma.cuh): all ten of a lane are under way at a time.
#include "kernels/common.cuh"
#include "kernels/fused/fused.h"
#include "kernels/fused/gather.cuh"
#include "kernels/fused/half.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/step_state.cuh"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {

struct DenseForwardTile {
  static constexpr int kRows = 16, kColumns = 8, kWarps = 10;
  static constexpr int kAcross = fused::kHidden / kColumns;  // 16 blocks
  static constexpr int kOfWarp = fused::kFlat / kWarps;      // 160 of gemm_k
  static constexpr int kGroups = kOfWarp / 32;

  // Shared memory: w [1600][8] as halves, each warp's sums [10][16][8].
  static constexpr int kFilter = 0;
  static constexpr int kSums = kFilter + fused::kFlat * kColumns * int(sizeof(Half));
  static constexpr int kBytes = kSums + kWarps * kRows * kColumns * int(sizeof(float));
};
static_assert(DenseForwardTile::kOfWarp % 32 == 0);
static_assert(DenseForwardTile::kBytes <= 48 * 1024);
// A block per row of the batch gathers it.
static_assert(DenseForwardTile::kAcross == DenseForwardTile::kRows);

template <bool kTraining>
__global__ void __launch_bounds__(DenseForwardTile::kWarps * 32, 1)
    fused_dense_forward_kernel(FusedMemory memory, FusedBatch next, FusedSource source, int n) {
  using Tile = DenseForwardTile;
  using fused::kFlat, fused::kHidden;
  const int warp = warp_index(), block = int(blockIdx.x);
  const int row_begin = block / Tile::kAcross * Tile::kRows;
  const int column_begin = block % Tile::kAcross * Tile::kColumns;
  const int k_begin = warp * Tile::kOfWarp;
  Half* w = reinterpret_cast<Half*>(dynamic_smem + Tile::kFilter) + k_begin * Tile::kColumns;
  float* sums = reinterpret_cast<float*>(dynamic_smem + Tile::kSums);

  unrolled<Tile::kGroups>([&](auto group) INLINED {
    warp_for_each([&](int lane) INLINED {
      const int k = k_begin + group * 32 + spread(lane);
      cp_async_16(w + (group * 32 + lane) * Tile::kColumns,
                  memory.dense1_w + k * kHidden + column_begin);
    });
  });
  cp_async_commit();
  // The bias is where the first warp begins.
  Sums<Tile::kColumns> even, odd;
  if (warp == 0) {
    const float* bias = memory.weights + memory.at.dense1_b + column_begin;
    warp_for_each([&](int lane) INLINED {
      for (int i = 0; i < even.kCount; ++i) even.at(lane, i) = bias[even.column(lane, i)];
    });
  }
  const bool gathers = kTraining && warp < GatheredRow::kWarps && block < n;
  const bool sets_up = kTraining && warp == Tile::kWarps - 1 && block == 0;
  [[maybe_unused]] GatheredRow gathered;
  [[maybe_unused]] StepState step{};
  if constexpr (kTraining) {
    if (gathers) gathered.load(source, *memory.state, n, 1, block);
    if (sets_up) {
      step = *memory.state;
      set_up_update(step);
    }
  }
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();

  FragA a[Tile::kGroups][2];
  unrolled<Tile::kGroups>([&](auto group) INLINED {
    load_a_spread(a[group], [&](int m) INLINED {
      return memory.a2 + int64_t{row_begin + m} * kFlat + k_begin + group * 32;
    });
  });
  cp_async_wait<0>();
  warp_sync();
  unrolled<Tile::kGroups>([&](auto group) INLINED {
    FragB<Tile::kColumns> b[2];
    unrolled<2>([&](auto s) INLINED {
      load_b_row_major(b[s], [&](int lane) INLINED {
        return w + (group * 32 + s * 16 + lane % 16) * Tile::kColumns;
      });
    });
    mma(even, a[group][0], b[0]);
    mma(odd, a[group][1], b[1]);
  });
  add(even, odd);
  float* mine = sums + warp * Tile::kRows * Tile::kColumns;
  warp_for_each([&](int lane) INLINED {
    for (int i = 0; i < even.kCount; i += 2)
      *reinterpret_cast<float2*>(mine + even.row(lane, i) * Tile::kColumns + even.column(lane, i)) =
          make_float2(even.at(lane, i), even.at(lane, i + 1));
  });
  __syncthreads();  // every warp wrote its sums, two of them add them

  unsigned count = 0;
  block_for_each(Tile::kRows * Tile::kColumns / 2, [&](int i) INLINED {
    float2 total = make_float2(0, 0);
    unrolled<Tile::kWarps>([&](auto from) INLINED {
      const float2 part =
          reinterpret_cast<const float2*>(sums + from * Tile::kRows * Tile::kColumns)[i];
      total.x += part.x;
      total.y += part.y;
    });
    const int row = row_begin + i / (Tile::kColumns / 2), pair = i % (Tile::kColumns / 2);
    if (row < n)
      reinterpret_cast<uint32_t*>(memory.h + int64_t{row} * kHidden + column_begin)[pair] =
          saturated_half2(relu_of(total.x), relu_of(total.y), count);
  });
  add_saturated(*memory.metrics, count);
  if constexpr (kTraining) {
    if (gathers) gathered.store(next, block);
    if (sets_up)
      warp_for_each([&](int lane) INLINED {
        if (lane != 0) return;
        memory.state->beta1_power = step.beta1_power;
        memory.state->beta2_power = step.beta2_power;
        memory.state->bias_correction = step.bias_correction;
      });
  }
}

namespace {

template <bool kTraining>
void launch_dense_forward(const FusedMemory& memory, const FusedBatch& next,
                          const FusedSource& source, int n, cudaStream_t stream) {
  using Tile = DenseForwardTile;
  launch_dependent(fused_dense_forward_kernel<kTraining>,
                   dim3(unsigned(ceil_div(n, Tile::kRows) * Tile::kAcross)),
                   dim3(kWarpThreads, Tile::kWarps), Tile::kBytes, stream, memory, next, source, n);
}

}  // namespace

void fused_dense_forward(const FusedMemory& memory, int n, cudaStream_t stream) {
  CHECK(n > 0);
  launch_dense_forward<false>(memory, {}, {}, n, stream);
}

void fused_dense_forward_training(const FusedMemory& memory, const FusedBatch& next,
                                  const FusedSource& source, int batch, cudaStream_t stream) {
  CHECK(batch > 0 && batch <= kFusedBatch);
  CHECK(next.pixels != nullptr && next.labels != nullptr);
  CHECK(source.images != nullptr && source.labels != nullptr && source.permutation != nullptr);
  launch_dense_forward<true>(memory, next, source, batch, stream);
}

}  // namespace mnist::MNIST_TARGET
