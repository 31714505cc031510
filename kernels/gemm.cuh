// The one matrix product behind convolutions and dense layers:
//   out[m,n] = epilogue(sum over k of a(m,k) * b(k,n)), float32, k ascending.
// A block computes a BM x BN tile in steps of BK: while it multiplies one step out of shared
// memory, each thread holds the next one in registers. A thread owns TM x TN accumulators
// (thread_tile.cuh), placed so that the 8 x 4 lanes of a warp read without bank conflicts.
// Operands are "sources": row-major matrices, stored or imagined (conv.cuh), read four neighbours
// at a time, with zeros outside: load4(row(r), col(c)), where row and col do what has to be done
// once for all elements of a row or column, c a multiple of four.
#pragma once

#include <cuda_runtime.h>
#include <thread_tile.cuh>

#include <type_traits>

#include "kernels/check.h"
#include "kernels/common.cuh"

namespace mnist::MNIST_TARGET {

// Where the columns of a source lie in the product: along gemm_k, or along gemm_m (gemm_n for b).
enum class Along { kK, kMn };

template <int kBM, int kBN, int kTM, int kTN>
struct GemmTile {
  static constexpr int BM = kBM, BN = kBN, BK = 16, TM = kTM, TN = kTN;
  static constexpr int kLanesM = 8, kLanesN = 4;
  static constexpr int kWarpM = kLanesM * TM, kWarpN = kLanesN * TN;
  static constexpr int kThreads = (BM / kWarpM) * (BN / kWarpN) * kWarpSize;
  static constexpr int kPad = 4;  // skews the banks of transposing stores, keeps float4 alignment
  static_assert(kLanesM * kLanesN == kWarpSize, "a lane for each thread tile of a warp");
  static_assert(BM % kWarpM == 0 && BN % kWarpN == 0, "warps tile the block tile without rest");
  static_assert(TM % 4 == 0 && TN % 4 == 0, "rows and columns are read as float4");
  static_assert(2 * BK * (BM + BN + 2 * kPad) * sizeof(float) <= 48 * 1024,
                "static shared memory ends at 48 KB");
};

using WideTile = GemmTile<64, 64, 8, 8>;
using NarrowTile = GemmTile<128, 32, 8, 8>;
using SmallTile = GemmTile<32, 32, 4, 8>;

// Calls f(tile) with the tile for an m x n result of which `slices` are computed side by side:
// small ones where larger ones would leave most multiprocessors without a block.
template <typename F>
decltype(auto) with_gemm_tile(int64_t m, int64_t n, int64_t slices, F&& f) {
  constexpr int64_t kEnoughBlocks = 48;
  const auto enough = [&](int64_t bm, int64_t bn) {
    return ceil_div(m, bm) * ceil_div(n, bn) * slices >= kEnoughBlocks;
  };
  if (m > SmallTile::BM && n > SmallTile::BN && enough(WideTile::BM, WideTile::BN))
    return f(WideTile{});
  if (m > NarrowTile::BM / 2 && n <= NarrowTile::BN && enough(NarrowTile::BM, NarrowTile::BN))
    return f(NarrowTile{});
  return f(SmallTile{});
}

template <typename Tile>
dim3 gemm_grid(int64_t m, int64_t n, int64_t slices) {
  const int64_t x = ceil_div<int64_t>(m, Tile::BM), y = ceil_div<int64_t>(n, Tile::BN);
  CHECK(m <= INT32_MAX - Tile::BM && y <= 65535 && slices <= 65535);
  return dim3(unsigned(x), unsigned(y), unsigned(slices));
}

// A stored matrix [rows, cols].
struct MatrixSource {
  using Row = const float*;
  using Col = int;

  MatrixSource(const float* matrix, int64_t row_count, int col_count)
      : data(matrix), rows(int(row_count)), cols(col_count), aligned(col_count % 4 == 0) {
    CHECK(row_count <= INT32_MAX);
  }

  __device__ Row row(int r) const { return r < rows ? data + size_t(r) * cols : nullptr; }
  __device__ Col col(int c) const { return c; }

  __device__ __forceinline__ float4 load4(Row row, Col col) const {
    if (row == nullptr || col >= cols) return make_float4(0, 0, 0, 0);
    return MNIST_TARGET::load4(row + col, cols - col, aligned);
  }

  const float* data;
  int rows, cols;
  bool aligned;
};

// The result [rows, cols] and what happens to a sum before it is stored; null pointers and false
// leave a step out.
struct GemmOutput {
  float* data;
  int64_t rows;
  int cols;
  const float* bias = nullptr;  // [cols]
  bool relu = false;
  const float* gate = nullptr;  // [rows, cols]

  __device__ void store4(int row, int col, float4 v) const {
    const bool aligned = cols % 4 == 0;
    const int valid = row < rows ? cols - col : 0;
    if (valid <= 0) return;
    const size_t at = size_t(row) * cols + col;
    if (bias != nullptr) {
      const float4 b = load4(bias + col, valid, aligned);
      v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
    }
    if (relu) v = make_float4(relu_of(v.x), relu_of(v.y), relu_of(v.z), relu_of(v.w));
    if (gate != nullptr) v = gated(v, load4(gate + at, valid, aligned));
    MNIST_TARGET::store4(data + at, v, valid, aligned);
  }
};

// One thread's share of bringing a [BK][kExtent] piece of a source into shared memory, in patches
// of 4 x 4. Along gemm_k the piece moves on; what belongs to the other direction is worked out
// once.
template <typename Tile, int kExtent, Along kAlong, typename Source>
struct GemmStage {
  // Patches side by side in the direction of the source's columns, and below each other.
  static constexpr int kAcross = (kAlong == Along::kK ? Tile::BK : kExtent) / 4;
  static constexpr int kDown = (kAlong == Along::kK ? kExtent : Tile::BK) / 4;
  static constexpr int kStep = Tile::kThreads / kAcross;
  static constexpr int kPatches = ceil_div(kDown, kStep);
  static_assert(Tile::kThreads % kAcross == 0, "a pass of the block brings whole rows of patches");
  static_assert(kDown % kStep == 0 || kDown < kStep, "the last pass is complete, or the only one");
  using Fixed = std::conditional_t<kAlong == Along::kK, typename Source::Row, typename Source::Col>;

  const Source& source;
  const int row = threadIdx.x / kAcross * 4, col = threadIdx.x % kAcross * 4;
  Fixed fixed[kAlong == Along::kK ? kPatches * 4 : 1];
  float4 held[kPatches * 4];

  static constexpr __device__ int row_step(int i) { return i / 4 * (kStep * 4) + i % 4; }
  // Whether this thread has a patch at all.
  __device__ bool takes_part() const { return kDown >= kStep || row < kDown * 4; }

  __device__ GemmStage(const Source& from, int begin) : source(from) {
    if constexpr (kAlong == Along::kK) {
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i) fixed[i] = source.row(begin + row + row_step(i));
    } else {
      fixed[0] = source.col(begin + col);
    }
  }

  __device__ __forceinline__ void load(int k) {
    if (!takes_part()) return;
    if constexpr (kAlong == Along::kK) {
      const typename Source::Col moving = source.col(k + col);
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i) held[i] = source.load4(fixed[i], moving);
    } else {
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i)
        held[i] = source.load4(source.row(k + row + row_step(i)), fixed[0]);
    }
  }

  __device__ __forceinline__ void store(float (*shared)[kExtent + Tile::kPad]) const {
    if (!takes_part()) return;
#pragma unroll
    for (int i = 0; i < kPatches * 4; ++i) {
      const int at = row + row_step(i);
      if constexpr (kAlong == Along::kMn) {
        *reinterpret_cast<float4*>(&shared[at][col]) = held[i];
      } else {
        shared[col][at] = held[i].x;
        shared[col + 1][at] = held[i].y;
        shared[col + 2][at] = held[i].z;
        shared[col + 3][at] = held[i].w;
      }
    }
  }
};

// The tile (blockIdx.x, blockIdx.y) of the product over k_begin <= k < k_end; a k_end within the
// sources must be k_begin plus a multiple of BK.
template <typename Tile, Along kAlongA, Along kAlongB, typename SourceA, typename SourceB>
__device__ __forceinline__ void gemm(const GemmOutput& out, const SourceA& a, const SourceB& b,
                                     int k_begin, int k_end) {
  constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK, TM = Tile::TM, TN = Tile::TN;
  __shared__ __align__(16) float As[2][BK][BM + Tile::kPad];
  __shared__ __align__(16) float Bs[2][BK][BN + Tile::kPad];

  const int block_row = blockIdx.x * BM, block_col = blockIdx.y * BN;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  constexpr int kWarpsN = BN / Tile::kWarpN;
  const int thread_row = warp / kWarpsN * Tile::kWarpM + lane / Tile::kLanesN * 4;
  const int thread_col = warp % kWarpsN * Tile::kWarpN + lane % Tile::kLanesN * TN;
  using Accumulators = ThreadTile<TM, TN, 4 * Tile::kLanesM>;

  GemmStage<Tile, BM, kAlongA, SourceA> stage_a(a, block_row);
  GemmStage<Tile, BN, kAlongB, SourceB> stage_b(b, block_col);
  stage_a.load(k_begin);
  stage_b.load(k_begin);
  stage_a.store(As[0]);
  stage_b.store(Bs[0]);
  __syncthreads();  // every thread wrote buffer 0, every thread reads it

  Accumulators acc;
  int buffer = 0;
  for (int k0 = k_begin; k0 < k_end; k0 += BK, buffer ^= 1) {
    const bool more = k0 + BK < k_end;
    if (more) {
      stage_a.load(k0 + BK);
      stage_b.load(k0 + BK);
    }
#pragma unroll
    for (int k = 0; k < BK; ++k)
      acc.add_product(&As[buffer][k][thread_row], &Bs[buffer][k][thread_col]);
    if (more) {
      stage_a.store(As[buffer ^ 1]);
      stage_b.store(Bs[buffer ^ 1]);
    }
    __syncthreads();  // all have read this buffer and written the other: they change places
  }

#pragma unroll
  for (int i = 0; i < TM; ++i) {
#pragma unroll
    for (int j = 0; j < TN; j += 4)
      out.store4(block_row + thread_row + acc.row(i), block_col + thread_col + j, acc.at(i, j));
  }
}

}  // namespace mnist::MNIST_TARGET
