// The one matrix product behind convolutions and dense layers:
//   out[m,n] = epilogue(sum over k of a(m,k) * b(k,n)), float32, k ascending.
//
// A block makes a BM x BN tile of out, in steps of BK along gemm_k. While it multiplies one
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
// For one k a thread reads TM + TN floats, by 16 bytes, and does TM * TN multiply-adds. Every sum
// is made by one thread, k ascending: which tile a result is divided into does not show in its
// bits.
//
// Default network, dx of the first dense layer: [128,1600], gemm_k = 128. Grid (4, 50), block 64;
// block (x, y) makes rows 32x to 32x + 31 and columns 32y to 32y + 31 in four steps of 32, its warp
// 0 the left half, warp 1 the right, a lane 4 x 4 sums.
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
// load4<aligned>(row(r), col(c)) are its elements (r, c) to (r, c + 3), zeros outside of it; c is a
// multiple of four. row() and col() do what can be done once for all elements of a row or column,
// and `aligned` (all four exist or none, as one vector) is asked once for many vectors.
template <typename S>
concept GemmSource = requires(const S& source, const typename S::Row& row,
                              const typename S::Col& col) {
  { source.row(0) } -> std::same_as<typename S::Row>;
  { source.col(0) } -> std::same_as<typename S::Col>;
  { source.template load4<true>(row, col) } -> std::same_as<float4>;
  { source.template load4<false>(row, col) } -> std::same_as<float4>;
  { source.aligned } -> std::convertible_to<bool>;
};

// A source that has yet to change the vectors it loaded: complete(col, v) is the vector to use
// where its columns run along gemm_m or gemm_n.
template <typename S>
concept LateGemmSource = GemmSource<S> &&
    requires(const S& source, const typename S::Col& col, float4 v) {
  { source.complete(col, v) } -> std::same_as<float4>;
};

// The direction of the product in which the columns of a source run: gemm_k, or gemm_m (gemm_n for
// b).
enum class Along { kK, kMn };

// The tiles themselves are in lanes/thread_tile.cuh, those of the cpu target in its twin.
template <int kBM, int kBN, int kBK, int kTM, int kTN, int kLanesAcross>
struct GemmTile {
  static constexpr int BM = kBM, BN = kBN, BK = kBK, TM = kTM, TN = kTN;
  static constexpr int kLanesN = kLanesAcross, kLanesM = kWarpSize / kLanesN;
  static constexpr int kWarpM = kLanesM * TM, kWarpN = kLanesN * TN;
  static constexpr int kThreads = (BM / kWarpM) * (BN / kWarpN) * kWarpSize;
  static constexpr int kPad = 4;  // skews the banks of transposing stores, keeps float4 alignment
  static_assert(kLanesM * kLanesN == kWarpSize, "a lane for each thread tile of a warp");
  static_assert(BM % kWarpM == 0 && BN % kWarpN == 0, "warp tiles divide the block tile evenly");
  static_assert(TM % 4 == 0 && TN % 4 == 0, "rows and columns are read as float4");
  static_assert(2 * BK * (BM + BN + 2 * kPad) * sizeof(float) <= 48 * 1024,
                "static shared memory ends at 48 KB");
};

// Calls f(tile) with the tile for an m x n result of which `slices` are computed side by side: a
// small one where a larger one would leave processors without a block, a narrow
// one where n is small.
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

  __device__ Row row(int r) const {
    return r < rows ? data + uint64_t{unsigned(r)} * unsigned(cols) : nullptr;
  }
  __device__ Col col(int c) const { return c; }
  __device__ int index(Col col) const { return col; }

  template <bool kAligned>
  __device__ __forceinline__ float4 load4(Row row, Col col) const {
    return MNIST_TARGET::load4(row + col, row != nullptr ? cols - col : 0, kAligned);
  }

  const float* data;
  int rows, cols;
  bool aligned;
};

// Adds a last column of ones to a source whose columns lie along gemm_m: the product gets a last
// row, the column sums of b. The column goes on beyond the source's last row, where it meets the
// zeros of b. It is put in when a vector is stored in shared memory, not when it is loaded, which
// would wait for it.
template <GemmSource Source>
struct WithOnes : Source {
  explicit WithOnes(const Source& source) : Source(source) {}

  __device__ float4 complete(const typename Source::Col& col, float4 v) const {
    const int ones_at = Source::cols - Source::index(col);
    if (ones_at == 0) v.x = 1.0f;
    if (ones_at == 1) v.y = 1.0f;
    if (ones_at == 2) v.z = 1.0f;
    if (ones_at == 3) v.w = 1.0f;
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
    cols % 4 == 0 ? store_vectors<true>(acc, row, col) : store_vectors<false>(acc, row, col);
  }

 private:
  // Everything is loaded before the first store, which a compiler would not load across.
  template <bool kAligned, typename Accumulators>
  __device__ __forceinline__ void store_vectors(const Accumulators& acc, int row, int col) const {
    constexpr int kRows = Accumulators::kRows, kAcross = Accumulators::kCols / 4;
    float4 biases[kAcross] = {}, gates[kRows][kAcross] = {};
    if (bias != nullptr) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j)
        biases[j] = load4(bias + col + j * 4, cols - col - j * 4, kAligned);
    }
    if (gate != nullptr) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) {
          const int r = row + acc.row(i), c = col + j * 4;
          gates[i][j] = load4(gate + size_t(r) * cols + c, r < rows ? cols - c : 0, kAligned);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        const int r = row + acc.row(i), c = col + j * 4;
        const bool last = last_row != nullptr && r == rows;
        float4 v = acc.at(i, j * 4);
        if (bias != nullptr) v = add4(v, biases[j]);
        if (relu) v = relu_of(v);
        if (gate != nullptr) v = gated(v, gates[i][j]);
        store4(last ? last_row + c : data + size_t(r) * cols + c, v,
               r < rows || last ? cols - c : 0, kAligned);
      }
    }
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
  static constexpr int kStep = Tile::kThreads / kAcross;
  static constexpr int kPatches = ceil_div(kDown, kStep);
  static_assert(Tile::kThreads % kAcross == 0, "a pass brings whole rows of patches");
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
  static_assert(kAlong == Along::kMn || Tile::kThreads % (4 * kAcross) == 0,
                "patches are dealt out in groups of four rows");

  __device__ GemmStage(const Source& from, int begin)
      : source(from), row(patch_row(threadIdx.x) * 4), col(patch_col(threadIdx.x) * 4) {
    if constexpr (kAlong == Along::kK) {
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i) fixed[i] = source.row(begin + row + row_step(i));
    } else {
      fixed[0] = source.col(begin + col);
    }
  }

  // Columns or rows k and on of gemm_k.
  __device__ __forceinline__ void load(int k) {
    if (takes_part()) source.aligned ? load_vectors<true>(k) : load_vectors<false>(k);
  }
  template <bool kAligned>
  __device__ __forceinline__ void load_vectors(int k) {
    if constexpr (kAlong == Along::kK) {
      const typename Source::Col moving = source.col(k + col);
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i)
        held[i] = source.template load4<kAligned>(fixed[i], moving);
    } else {
#pragma unroll
      for (int i = 0; i < kPatches * 4; ++i)
        held[i] = source.template load4<kAligned>(source.row(k + row + row_step(i)), fixed[0]);
    }
  }

  __device__ __forceinline__ void store(float (*shared)[kExtent + Tile::kPad]) const {
    if (!takes_part()) return;
#pragma unroll
    for (int i = 0; i < kPatches * 4; ++i) {
      const int at = row + row_step(i);
      if constexpr (kAlong == Along::kMn) {
        float4 v = held[i];
        if constexpr (LateGemmSource<Source>) v = source.complete(fixed[0], v);
        *reinterpret_cast<float4*>(&shared[at][col]) = v;
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
  constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK;
  __shared__ __align__(16) float As[2][BK][BM + Tile::kPad];
  __shared__ __align__(16) float Bs[2][BK][BN + Tile::kPad];

  const int block_row = blockIdx.x * BM, block_col = blockIdx.y * BN;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  constexpr int kWarpsN = BN / Tile::kWarpN;
  const int thread_row = warp / kWarpsN * Tile::kWarpM + lane / Tile::kLanesN * 4;
  const int thread_col = warp % kWarpsN * Tile::kWarpN + lane % Tile::kLanesN * Tile::TN;

  GemmStage<Tile, BM, kAlongA, SourceA> stage_a(a, block_row);
  GemmStage<Tile, BN, kAlongB, SourceB> stage_b(b, block_col);
  stage_a.load(k_begin);
  stage_b.load(k_begin);
  stage_a.store(As[0]);
  stage_b.store(Bs[0]);
  __syncthreads();  // every thread wrote buffer 0, every thread reads it

  ThreadTile<Tile::TM, Tile::TN, 4 * Tile::kLanesM> acc;
  int buffer = 0;
  for (int k = k_begin; k < k_end; k += BK, buffer ^= 1) {
    const bool more = k + BK < k_end;
    if (more) {
      stage_a.load(k + BK);
      stage_b.load(k + BK);
    }
    acc.template add_products<BK, BM + Tile::kPad, BN + Tile::kPad>(&As[buffer][0][thread_row],
                                                                    &Bs[buffer][0][thread_col]);
    if (more) {
      stage_a.store(As[buffer ^ 1]);
      stage_b.store(Bs[buffer ^ 1]);
    }
    __syncthreads();  // all have read this buffer and written the other: they swap roles
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
