// The cpu target's ../lanes/thread_tile.cuh: the same sums in the same order, with a row of
// accumulators as vectors of the processor, kept in its registers for as many products as there
// are. In the plain loops g++ would keep them in memory or in scalars.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/simt/warp_float.cuh"
#include "kernels/unrolled.cuh"

namespace mnist::MNIST_TARGET {

// Here a block is one after the other 32 or 64 threads, which take turns at each barrier: the more
// a thread does between two of them, the better. 8 x 16 sums are 8 registers of AVX-512, 4 x 16
// are 8 of AVX2, half of what there is.
template <int kBM, int kBN, int kBK, int kTM, int kTN, int kLanesAcross>
struct GemmTile;
using WideTile = GemmTile<64, 64, 32, kVectorLanes == 16 ? 8 : 4, 16, 4>;
using NarrowTile = GemmTile<128, 16, 32, 4, 16, 1>;
using SmallTile = GemmTile<64, 32, 32, 4, 16, 2>;

inline constexpr int64_t kEnoughBlocks = 16;

template <int kBlockRows, int kColumns, int kTM, int kSlicesOfThread>
struct SplitTileOf;
using SplitTile = SplitTileOf<32, 16, kVectorLanes == 16 ? 8 : 4, 64>;

template <int TM, int TN, int kGroupStride>
class ThreadTile {
  static constexpr int kVectors = TN / kVectorLanes;
  static_assert(TN % kVectorLanes == 0, "a row is whole vectors");

 public:
  static constexpr int kRows = TM, kCols = TN;
  static constexpr int row(int i) { return i / 4 * kGroupStride + i % 4; }

  template <int kCount, int kStrideA, int kStrideB>
  void add_products(const float* a, const float* b) {
    WarpFloat acc[TM][kVectors];
    unrolled2<TM, kVectors>([&](auto i, auto p) INLINED { acc[i][p] = acc_[i][p]; });
    for (int k = 0; k < kCount; ++k) {
      WarpFloat row_b[kVectors];
      std::memcpy(row_b, b + k * kStrideB, sizeof(row_b));
      unrolled<TM>([&](auto i) INLINED {
        const WarpFloat from_a = warp_detail::same(a[k * kStrideA + row(i)]);
        unrolled<kVectors>([&](auto p)
                               INLINED { acc[i][p] = warp_fma(from_a, row_b[p], acc[i][p]); });
      });
    }
    unrolled2<TM, kVectors>([&](auto i, auto p) INLINED { acc_[i][p] = acc[i][p]; });
  }

  void add_four_products(const float* const (&a)[TM], const float* b, int stride_b) {
    unrolled<4>([&](auto k) INLINED {
      WarpFloat row_b[kVectors];
      std::memcpy(row_b, b + int64_t{k} * stride_b, sizeof(row_b));
      unrolled<TM>([&](auto i) INLINED {
        const WarpFloat from_a = warp_detail::same(a[i][k]);
        unrolled<kVectors>([&](auto p)
                               INLINED { acc_[i][p] = warp_fma(from_a, row_b[p], acc_[i][p]); });
      });
    });
  }

  void add(const ThreadTile& other) {
    unrolled2<TM, kVectors>([&](auto i, auto p) INLINED { acc_[i][p] += other.acc_[i][p]; });
  }

  float4 at(int i, int j) const {
    const WarpFloat& v = acc_[i][j / kVectorLanes];
    return make_float4(v[j % kVectorLanes], v[j % kVectorLanes + 1], v[j % kVectorLanes + 2],
                       v[j % kVectorLanes + 3]);
  }

 private:
  WarpFloat acc_[TM][kVectors] = {};
};

}  // namespace mnist::MNIST_TARGET
