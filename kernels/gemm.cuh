// The one matrix product behind convolutions and dense layers:
//   out[m,n] = epilogue(sum over k of a(m,k) * b(k,n)), float32, k ascending.
//
// A block makes a BM x BN tile of out, in steps of BK = 16 along gemm_k. While it multiplies one
// step out of shared memory, each thread holds the next one in registers; there are two shared
// buffers, so that a step needs one barrier. Wide tile, 64 x 64, two warps of 64 x 32:
//
//                   Bs, 16 x 64            a warp: 8 x 4 lanes, 8 x 8 sums each. A lane's rows
//                 +-------+-------+        come in fours, so that the eight lanes of a column
//   As, 64 x 16   +-------+-------+        read 32 neighbours of As: no bank conflicts.
//       +--+      +-------+-------+
//       |  |      |       |       |          rows 0-3     lane  0   1   2   3
//       |  |      | warp  | warp  |          rows 4-7     lane  4   5   6   7
//       |  |      |   0   |   1   |            ...
//       |  |      |       |       |          rows 28-31   lane 28  29  30  31
//       +--+      +-------+-------+          rows 32-35   lane  0   1   2   3, and so on
//
// For one k a thread reads TM + TN floats, by 16 bytes, and does TM * TN multiply-adds. Small tiles
// divide gemm_k among groups of warps, the slices, whose sums are added in order at the end: more
// loads under way where there are few blocks.
//
// Default network, dw of the first dense layer: [1601,128] (one row is the bias' gradient), gemm_k
// = 128. Grid (26, 2), block 64; block (x, y) makes rows 64x to 64x + 63 and columns 64y to 64y +
// 63 in eight steps, its warp 0 the left half, warp 1 the right.
//
// The operands are sources: row-major matrices, stored or implicit (conv_sources.cuh).
#pragma once

#include <cuda_runtime.h>

#include <concepts>
#include <type_traits>

#include "kernels/check.h"
#include "kernels/common.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

// A row-major matrix, stored or implicit, that is read four neighbours of a row at a time:
// load4(row(r), col(c)) are its elements (r, c) to (r, c + 3), zeros outside of it; c is a multiple
// of four. row() and col() do what can be done once for all elements of a row or column.
template <typename S>
concept GemmSource = requires(const S& source, const typename S::Row& row,
                              const typename S::Col& col) {
  { source.row(0) } -> std::same_as<typename S::Row>;
  { source.col(0) } -> std::same_as<typename S::Col>;
  { source.load4(row, col) } -> std::same_as<float4>;
};

// A source that can tell where it ends, as WithOnes needs.
template <typename S>
concept BoundedGemmSource = GemmSource<S> &&
    requires(const S& source, const typename S::Row& row, const typename S::Col& col) {
  { S::exists(row) } -> std::same_as<bool>;    // the row lies within the matrix
  { source.index(col) } -> std::same_as<int>;  // the column's number
  { source.cols } -> std::convertible_to<int>;
};

// The direction of the product in which the columns of a source run: gemm_k, or gemm_m (gemm_n for
// b).
enum class Along { kK, kMn };

template <int kBM, int kBN, int kTM, int kTN, int kSliceCount>
struct GemmTile {
  static constexpr int BM = kBM, BN = kBN, BK = 16, TM = kTM, TN = kTN;
  static constexpr int kLanesM = 8, kLanesN = 4;
  static constexpr int kWarpM = kLanesM * TM, kWarpN = kLanesN * TN;
  static constexpr int kSlices = kSliceCount;
  static constexpr int kSliceThreads = (BM / kWarpM) * (BN / kWarpN) * kWarpSize;
  static constexpr int kThreads = kSliceThreads * kSlices;
  static constexpr int kPad = 4;  // skews the banks of transposing stores, keeps float4 alignment
  static_assert(kLanesM * kLanesN == kWarpSize, "a lane for each thread tile of a warp");
  static_assert(BM % kWarpM == 0 && BN % kWarpN == 0, "warp tiles divide the block tile evenly");
  static_assert(TM % 4 == 0 && TN % 4 == 0, "rows and columns are read as float4");
  static_assert(kSlices * 2 * BK * (BM + BN + 2 * kPad) * sizeof(float) <= 48 * 1024,
                "static shared memory ends at 48 KB");
};

using WideTile = GemmTile<64, 64, 8, 8, 1>;     // 2 warps side by side, 17 KB
using NarrowTile = GemmTile<128, 32, 8, 8, 1>;  // 2 warps, one above the other, 21 KB
using SmallTile = GemmTile<32, 32, 4, 8, 4>;    // 4 slices of one warp, 36 KB

inline constexpr int64_t kEnoughBlocks = 48;  // where fewer would leave a GPU's processors idle

// Calls f(tile) with the tile for an m x n result of which `slices` are computed side by side: a
// small one where a larger one would leave most multiprocessors without a block.
template <typename F>
decltype(auto) dispatch_gemm_tile(int64_t m, int64_t n, int64_t slices, F&& f) {
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
  __device__ static bool exists(Row row) { return row != nullptr; }
  __device__ static int index(Col col) { return col; }

  __device__ __forceinline__ float4 load4(Row row, Col col) const {
    if (row == nullptr || col >= cols) return make_float4(0, 0, 0, 0);
    return MNIST_TARGET::load4(row + col, cols - col, aligned);
  }

  const float* data;
  int rows, cols;
  bool aligned;
};

// sum + bias, then ReLU, of four columns from `col` on.
__device__ inline float4 epilogue(float4 v, const float* bias, bool relu, int col, int valid,
                                  bool aligned) {
  if (bias != nullptr) {
    const float4 b = load4(bias + col, valid, aligned);
    v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
  }
  if (relu) v = make_float4(relu_of(v.x), relu_of(v.y), relu_of(v.z), relu_of(v.w));
  return v;
}

// Adds a last column of ones to a source whose columns lie along gemm_m: the product gets a last
// row, the column sums of b.
template <BoundedGemmSource Source>
struct WithOnes : Source {
  explicit WithOnes(const Source& source) : Source(source) {}

  __device__ __forceinline__ float4 load4(const typename Source::Row& row,
                                          const typename Source::Col& col) const {
    float4 v = Source::load4(row, col);
    const int ones_at = Source::cols - Source::index(col);
    const float one = Source::exists(row) ? 1.0f : 0.0f;
    if (ones_at == 0) v.x = one;
    if (ones_at == 1) v.y = one;
    if (ones_at == 2) v.z = one;
    if (ones_at == 3) v.w = one;
    return v;
  }
};

// The result [rows, cols] and what happens to a sum before it is stored; null pointers and false
// leave a step out.
struct GemmOutput {
  float* data;  // [rows, cols]
  int64_t rows;
  int cols;
  const float* bias = nullptr;  // [cols]
  bool relu = false;
  const float* gate = nullptr;  // [rows, cols]
  float* last_row = nullptr;    // [cols]: the product has one row more, which goes there

  template <typename Accumulators>
  __device__ __forceinline__ void store(const Accumulators& acc, int row, int col) const {
#pragma unroll
    for (int i = 0; i < Accumulators::kRows; ++i) {
#pragma unroll
      for (int j = 0; j < Accumulators::kCols; j += 4)
        store4(row + acc.row(i), col + j, acc.at(i, j));
    }
  }

 private:
  __device__ void store4(int row, int col, float4 v) const {
    const bool aligned = cols % 4 == 0, last = last_row != nullptr && row == rows;
    const int valid = row < rows || last ? cols - col : 0;
    if (valid <= 0) return;
    const size_t at = size_t(row) * cols + col;
    v = epilogue(v, bias, relu, col, valid, aligned);
    if (gate != nullptr) v = gated(v, load4(gate + at, valid, aligned));
    MNIST_TARGET::store4(last ? last_row + col : data + at, v, valid, aligned);
  }
};

// One thread's share of bringing a [BK][kExtent] piece of a source into shared memory, in 4 x 4
// patches of four vectors: load() into registers, store() from there. The piece moves along gemm_k;
// what belongs to the other direction (`fixed`) is computed once.
//
// Where a source's columns run along gemm_m or gemm_n, a vector is stored as it is. Where they run
// along gemm_k, a patch is transposed on the way, and threads are dealt out such that the 16-byte
// stores of eight neighbours, which go together, reach all 32 banks. Wide tile:
//
//   columns, along gemm_k     0-3   4-7  8-11 12-15     Rows of As are 64 + 4 = 68 floats. Of its
//   rows  0- 3               t  0     1     8     9     row 0, threads 0, 2, 4, 6 store floats 0 to
//         4- 7                  2     3    10    11     15, banks 0 to 15; of its row 4, threads 1,
//         8-11                  4     5    12    13     3, 5, 7 do the same, and 4 * 68 = 16 (mod
//        12-15                  6     7    14    15     32): banks 16 to 31.
//        16-19                 16    17    24    25
template <typename Tile, int kExtent, Along kAlong, GemmSource Source>
struct GemmStage {
  // Patches side by side in the direction of the source's columns, and below each other.
  static constexpr int kAcross = (kAlong == Along::kK ? Tile::BK : kExtent) / 4;
  static constexpr int kDown = (kAlong == Along::kK ? kExtent : Tile::BK) / 4;
  static constexpr int kStep = Tile::kSliceThreads / kAcross;
  static constexpr int kPatches = ceil_div(kDown, kStep);
  static_assert(Tile::kSliceThreads % kAcross == 0, "a pass brings whole rows of patches");
  static_assert(kDown % kStep == 0 || kDown < kStep, "the last pass is complete, or the only one");
  using Fixed = std::conditional_t<kAlong == Along::kK, typename Source::Row, typename Source::Col>;

  const Source& source;
  const int row, col;
  Fixed fixed[kAlong == Along::kK ? kPatches * 4 : 1];
  float4 held[kPatches * 4];

  static constexpr __device__ int row_step(int i) { return i / 4 * (kStep * 4) + i % 4; }
  // Whether this thread has a patch at all.
  __device__ bool takes_part() const { return kDown >= kStep || row < kDown * 4; }

  // A thread's patch, as in the picture: t / 2 % 4 is bits 1 and 2 of t, t / 8 % 2 bit 3.
  static constexpr __device__ int patch_row(int thread) {
    return kAlong == Along::kK ? thread / 2 % 4 + thread / (4 * kAcross) * 4 : thread / kAcross;
  }
  static constexpr __device__ int patch_col(int thread) {
    return kAlong == Along::kK ? thread % 2 + thread / 8 % (kAcross / 2) * 2 : thread % kAcross;
  }
  static_assert(kAlong == Along::kMn || Tile::kSliceThreads % (4 * kAcross) == 0,
                "patches are dealt out in groups of four rows");

  __device__ GemmStage(const Source& from, int begin)
      : source(from),
        row(patch_row(threadIdx.x % Tile::kSliceThreads) * 4),
        col(patch_col(threadIdx.x % Tile::kSliceThreads) * 4) {
    if constexpr (kAlong == Along::kK) {
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i) fixed[i] = source.row(begin + row + row_step(i));
    } else {
      fixed[0] = source.col(begin + col);
    }
  }

  // Columns or rows k and on of gemm_k; zeros from k_end on, for a slice that has run out of steps.
  __device__ __forceinline__ void load(int k, int k_end) {
    if (!takes_part()) return;
    if (Tile::kSlices > 1 && k >= k_end) {
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i) held[i] = make_float4(0, 0, 0, 0);
      return;
    }
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
// sources must be k_begin plus a multiple of BK. `out` stores a thread's sums.
template <typename Tile, Along kAlongA, Along kAlongB, typename Output, GemmSource SourceA,
          GemmSource SourceB>
__device__ __forceinline__ void gemm(const Output& out, const SourceA& a, const SourceB& b,
                                     int k_begin, int k_end) {
  constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK, TM = Tile::TM, TN = Tile::TN;
  constexpr int kSlices = Tile::kSlices, kStep = kSlices * BK;
  __shared__ __align__(16) float As[2][kSlices][BK][BM + Tile::kPad];
  __shared__ __align__(16) float Bs[2][kSlices][BK][BN + Tile::kPad];

  const int block_row = blockIdx.x * BM, block_col = blockIdx.y * BN;
  const int slice = threadIdx.x / Tile::kSliceThreads;
  const int slice_thread = threadIdx.x % Tile::kSliceThreads;
  const int lane = slice_thread % kWarpSize, warp = slice_thread / kWarpSize;
  constexpr int kWarpsN = BN / Tile::kWarpN;
  const int thread_row = warp / kWarpsN * Tile::kWarpM + lane / Tile::kLanesN * 4;
  const int thread_col = warp % kWarpsN * Tile::kWarpN + lane % Tile::kLanesN * TN;

  const int slice_begin = k_begin + slice * BK;
  GemmStage<Tile, BM, kAlongA, SourceA> stage_a(a, block_row);
  GemmStage<Tile, BN, kAlongB, SourceB> stage_b(b, block_col);
  stage_a.load(slice_begin, k_end);
  stage_b.load(slice_begin, k_end);
  stage_a.store(As[0][slice]);
  stage_b.store(Bs[0][slice]);
  __syncthreads();  // every thread wrote buffer 0, every thread reads it

  ThreadTile<TM, TN, 4 * Tile::kLanesM> acc;
  int buffer = 0;
  for (int step = 0; step < k_end - k_begin; step += kStep, buffer ^= 1) {
    const bool more = step + kStep < k_end - k_begin;
    if (more) {
      stage_a.load(slice_begin + step + kStep, k_end);
      stage_b.load(slice_begin + step + kStep, k_end);
    }
#pragma unroll
    for (int k = 0; k < BK; ++k)
      acc.add_product(&As[buffer][slice][k][thread_row], &Bs[buffer][slice][k][thread_col]);
    if (more) {
      stage_a.store(As[buffer ^ 1][slice]);
      stage_b.store(Bs[buffer ^ 1][slice]);
    }
    __syncthreads();  // all have read this buffer and written the other: they swap roles
  }

  if constexpr (kSlices > 1) {
    // The operands are no longer needed: the sums of all slices but the first go where they were.
    constexpr int kVectors = TM * TN / 4;
    static_assert((kSlices - 1) * kVectors * Tile::kSliceThreads * sizeof(float4) <= sizeof(As));
    float4* sums = reinterpret_cast<float4*>(As);
    const auto at = [&](int from, int vector) {
      return ((from - 1) * kVectors + vector) * Tile::kSliceThreads + slice_thread;
    };
    if (slice > 0) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v)
        sums[at(slice, v)] = acc.at(v / (TN / 4), v % (TN / 4) * 4);
    }
    __syncthreads();  // the other slices wrote their sums, the first reads them
    if (slice > 0) return;
    for (int from = 1; from < kSlices; ++from) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) acc.add(v / (TN / 4), v % (TN / 4) * 4, sums[at(from, v)]);
    }
  }
  out.store(acc, block_row + thread_row, block_col + thread_col);
}

// Launches a kernel(out, args...) for the result `out`, of which `slices` are computed side by
// side, one in each layer of the grid.
template <typename Tile, typename... Parameters, typename... Arguments>
void launch_gemm(void (*kernel)(Parameters...), const GemmOutput& out, int slices,
                 cudaStream_t stream, Arguments&&... args) {
  const int64_t rows = out.rows + (out.last_row != nullptr ? 1 : 0);
  launch(kernel, gemm_grid<Tile>(rows, out.cols, slices), dim3(Tile::kThreads), stream, out,
         args...);
}

// The same with kernel_of(tile), where `tile` is the one that fits `out`; gemm_k in one piece.
template <typename KernelOf, GemmSource A, GemmSource B>
void launch_gemm(KernelOf kernel_of, const GemmOutput& out, cudaStream_t stream, const A& a,
                 const B& b) {
  dispatch_gemm_tile(out.rows, out.cols, 1, [&](auto tile) {
    launch_gemm<decltype(tile)>(kernel_of(tile), out, 1, stream, a, b);
  });
}

}  // namespace mnist::MNIST_TARGET
