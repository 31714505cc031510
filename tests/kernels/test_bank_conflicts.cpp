// Bank conflicts in the kernels' shared memory, found by replaying the addresses of a warp: 32
// banks of 4 bytes, accesses of 16 bytes by a quarter of the warp at a time, equal words for free.
// The matrix product's addresses come from its own code, run with sources and a thread tile that
// record; the others are written out here with the kernels' own constants, next to the kernel's
// expression.
//
// Everything is compiled once more in a namespace of its own, so that the kernels under test
// elsewhere stay as they are.
#undef MNIST_TARGET
#define MNIST_TARGET bank_conflicts
#undef MNIST_LANES_AS_VECTORS  // tiles and lanes as the GPU has them

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#define ThreadTile ComputingThreadTile
#include "kernels/lanes/lanes.cuh"
#undef ThreadTile

namespace mnist::bank_conflicts {

// An access of one thread: which instruction of the thread's it is, and the address in words.
struct Access {
  int thread;
  int instruction;
  int64_t word;
};
std::vector<Access> trace;
std::map<int, int> instructions;  // of each thread, so far

void record(const float* address) {
  const int thread = int(threadIdx.x);
  trace.push_back({thread, instructions[thread]++, int64_t(uintptr_t(address) / sizeof(float))});
}

// Reads by 16 bytes, as the plain thread tile's code is compiled for a GPU.
template <int TM, int TN, int kGroupStride>
class ThreadTile {
 public:
  static constexpr int kRows = TM, kCols = TN;
  static constexpr int row(int i) { return ComputingThreadTile<TM, TN, kGroupStride>::row(i); }
  template <int kCount, int kStrideA, int kStrideB>
  void add_products(const float* a, const float* b) {
    for (int k = 0; k < kCount; ++k) {
      for (int i = 0; i < TM; i += 4) record(a + k * kStrideA + row(i));
      for (int j = 0; j < TN; j += 4) record(b + k * kStrideB + j);
    }
  }
  void add_four_products(const float* const (&)[TM], const float*, int) {}
  void add(const ThreadTile&) {}
  float4 at(int, int) const { return make_float4(0, 0, 0, 0); }
};

}  // namespace mnist::bank_conflicts

#include "kernels/conv2d_pool_backward.cu"
#include "kernels/conv2d_pool_forward.cu"
#include "kernels/dense.cu"
#include "kernels/fused/conv_forward.cuh"
#include "kernels/gemm.cuh"
#include "kernels/sum_rows.cuh"
#include "tests/support/catch.h"

namespace mnist::bank_conflicts {

// How many different words of one bank the worst phase touches: 1 is free of conflicts, 0 no
// access. words[lane] is where the lane's access of `width` words begins, negative for no access.
int conflict_degree(const std::vector<int64_t>& words, int width) {
  constexpr int kBanks = 32;
  size_t worst = 0;
  const size_t phase_lanes = size_t(kWarpSize / width);
  for (size_t begin = 0; begin < words.size(); begin += phase_lanes) {
    std::set<int64_t> touched[kBanks];
    for (size_t lane = begin; lane < std::min(begin + phase_lanes, words.size()); ++lane)
      for (int i = 0; i < width && words[lane] >= 0; ++i)
        touched[(words[lane] + i) % kBanks].insert(words[lane] + i);
    for (const auto& bank : touched) worst = std::max(worst, bank.size());
  }
  return int(worst);
}

// The same for threads 0 to threads - 1 of a block, warp by warp; word(thread) as above.
template <typename Word>
int conflict_degree(int threads, int width, Word word) {
  int worst = 0;
  for (int begin = 0; begin < threads; begin += kWarpSize) {
    std::vector<int64_t> words;
    for (int thread = begin; thread < std::min(begin + kWarpSize, threads); ++thread)
      words.push_back(word(thread));
    worst = std::max(worst, conflict_degree(words, width));
  }
  return worst;
}

// The worst of all instructions of a trace of 16-byte accesses.
int conflict_degree_of_trace() {
  std::map<std::pair<int, int>, std::vector<int64_t>> warps;  // by warp and instruction
  for (const Access& access : trace) {
    REQUIRE(access.word % 4 == 0);
    auto& words = warps[{access.thread / kWarpSize, access.instruction}];
    words.resize(kWarpSize, -1);
    words[size_t(access.thread % kWarpSize)] = access.word;
  }
  int worst = 0;
  for (const auto& [key, words] : warps) worst = std::max(worst, conflict_degree(words, 4));
  return worst;
}

// Runs one block of a kernel and traces it.
template <typename Kernel>
void run_traced(Kernel kernel, int threads) {
  trace.clear();
  instructions.clear();
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  launch(kernel, dim3(1), dim3(unsigned(threads)), stream);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}

// ---- matrix product ----------------------------------------------------------------------------
// Its elements are numbered from 1 in the order in which a thread reads them.
struct NumberedSource {
  using Row = int;
  using Col = int;
  mutable int last = 0;
  bool aligned = true;

  Row row(int r) const { return r; }
  Col col(int c) const { return c; }
  template <bool kAligned>
  float4 load4(Row, Col) const {
    last += 4;
    return make_float4(float(last - 3), float(last - 2), float(last - 1), float(last));
  }
};

struct NoOutput {
  template <typename Accumulators>
  void store(const Accumulators&, int, int) const {}
};

template <typename Tile>
__global__ void traced_gemm_kernel() {
  const NumberedSource a, b;
  gemm<Tile, Along::kK, Along::kMn>(NoOutput{}, a, b, 0, 2 * Tile::BK);
}

// A thread's stores into an array of its own, each of which the numbers in it tell apart.
template <typename Tile, int kExtent, Along kAlong>
__global__ void traced_stage_kernel() {
  const NumberedSource source;
  GemmStage<Tile, kExtent, kAlong, NumberedSource> stage(source, 0);
  float memory[Tile::BK][kExtent + Tile::kPad] = {};
  stage.load(0);
  stage.store(memory);
  // Along gemm_k, a component of the four vectors of a patch goes to four neighbours, which the
  // compiler stores at once; else a vector does.
  const auto first_of_four = [](int number) {
    return kAlong == Along::kK ? number / 4 % 4 == 0 : number % 4 == 0;
  };
  const float* words = memory[0];
  std::map<int, int64_t> stores;
  for (int at = 0; at < int(sizeof(memory) / sizeof(float)); ++at) {
    const int number = int(words[at]) - 1;
    if (number < 0 || !first_of_four(number)) continue;
    const int step = kAlong == Along::kK ? 4 : 1;
    for (int i = 1; i < 4; ++i) REQUIRE(words[at + i] == words[at] + float(i * step));
    stores[number] = at;
  }
  REQUIRE(int(stores.size()) * 4 == (stage.takes_part() ? source.last : 0));
  for (const auto& [number, at] : stores) trace.push_back({int(threadIdx.x), number, at});
}

template <typename Tile, int kExtent>
void require_conflict_free_stores() {
  run_traced(traced_stage_kernel<Tile, kExtent, Along::kK>, Tile::kThreads);
  CHECK(conflict_degree_of_trace() == 1);
  run_traced(traced_stage_kernel<Tile, kExtent, Along::kMn>, Tile::kThreads);
  CHECK(conflict_degree_of_trace() == 1);
}

template <typename Tile>
void require_conflict_free_gemm() {
  simt::set_os_threads(1);
  run_traced(traced_gemm_kernel<Tile>, Tile::kThreads);
  CHECK(trace.size() == size_t(Tile::kThreads) * 2 * Tile::BK * (Tile::TM + Tile::TN) / 4);
  CHECK(conflict_degree_of_trace() == 1);
  require_conflict_free_stores<Tile, Tile::BM>();
  require_conflict_free_stores<Tile, Tile::BN>();
  simt::set_os_threads(0);
}

TEST_CASE("bank conflicts: the simulation sees what is known", "[bank_conflicts]") {
  const auto strided = [](int stride) {
    return [stride](int lane) { return int64_t(lane) * stride; };
  };
  CHECK(conflict_degree(32, 1, strided(1)) == 1);
  CHECK(conflict_degree(32, 1, strided(0)) == 1);  // one word for all lanes
  CHECK(conflict_degree(32, 1, strided(2)) == 2);
  CHECK(conflict_degree(32, 1, strided(32)) == 32);
  CHECK(conflict_degree(32, 1, strided(33)) == 1);
  CHECK(conflict_degree(32, 4, strided(4)) == 1);
  CHECK(conflict_degree(32, 4, strided(8)) == 2);
  CHECK(conflict_degree(32, 4, strided(32)) == 8);
  CHECK(conflict_degree(64, 1, [](int thread) { return thread < 32 ? thread : -1; }) == 1);
}

TEST_CASE("bank conflicts: matrix product, none", "[bank_conflicts]") {
  SECTION("wide tile") {
    require_conflict_free_gemm<WideTile>();
  }
  SECTION("narrow tile") {
    require_conflict_free_gemm<NarrowTile>();
  }
  SECTION("small tile") {
    require_conflict_free_gemm<SmallTile>();
  }
}

// ---- the other kernels -------------------------------------------------------------------------
TEST_CASE("bank conflicts: sum_rows, none", "[bank_conflicts]") {
  using Tile = SumRowsTile;
  const auto partial = [](int lane, int vector) {  // partial[lane][vector]
    return (int64_t(lane) * Tile::kVectors + vector) * 4;
  };
  CHECK(conflict_degree(Tile::kThreads, 4, [&](int thread) {
          return partial(thread / Tile::kVectors, thread % Tile::kVectors);
        }) == 1);
  for (int row = 1; row < Tile::kRowLanes; ++row)
    CHECK(conflict_degree(Tile::kThreads, 4, [&](int thread) {
            return thread < Tile::kVectors ? partial(row, thread) : -1;
          }) == 1);
}

TEST_CASE("bank conflicts: dense_forward_split, none", "[bank_conflicts]") {
  using Tile = SplitTile;
  const auto sums = [](int vector, int thread) {  // sums[vector][thread]
    return (int64_t(vector) * (Tile::kThreads + 4) + thread) * 4;
  };
  for (int v = 0; v < Tile::kVectors; ++v)
    CHECK(conflict_degree(Tile::kThreads, 4, [&](int thread) { return sums(v, thread); }) == 1);
  for (int s = 0; s < Tile::kSlices; ++s)
    CHECK(conflict_degree(Tile::kOutputs, 1, [&](int thread) {
            const int from = thread / 4 % Tile::kSliceThreads;
            return sums(thread / (4 * Tile::kSliceThreads), s * Tile::kSliceThreads + from) +
                   thread % 4;
          }) == 1);
}

// Warps read and write the tile 32 channels at a time, threads a float4 at a time, in order.
void require_free_tile(int threads) {
  for (int pixel = 0; pixel < kTileSide * kTileSide; ++pixel)
    CHECK(conflict_degree(kWarpSize, 1, [&](int lane) { return pixel * kWarpSize + lane; }) == 1);
  for (int begin = 0; begin < kTileVectors; begin += threads)
    CHECK(conflict_degree(threads, 4, [&](int thread) {
            const int64_t e = begin + thread;
            return e < kTileVectors ? e * 4 : -1;
          }) == 1);
}

TEST_CASE("bank conflicts: conv2d_pool_backward_data, none", "[bank_conflicts]") {
  const auto filter = [](int tap, int k, int c) {  // filter[tap][k][c]
    return (int64_t(tap) * kFilterDepth + k) * (kWarpSize + 1) + c;
  };
  constexpr int kAcross = kFilterDepth / 4;
  for (int begin = 0; begin < kTaps * kWarpSize * kAcross; begin += kDataThreads)
    for (int component = 0; component < 4; ++component)
      CHECK(conflict_degree(kDataThreads, 1, [&](int thread) {
              const int e = begin + thread;
              if (e >= kTaps * kWarpSize * kAcross) return int64_t{-1};
              return filter(e / kAcross / kWarpSize, e % kAcross * 4 + component,
                            e / kAcross % kWarpSize);
            }) <= 1);
  for (int tap = 0; tap < kTaps; ++tap)
    for (int k = 0; k < kFilterDepth; ++k)
      CHECK(conflict_degree(kWarpSize, 1, [&](int lane) { return filter(tap, k, lane); }) == 1);
  require_free_tile(kDataThreads);
}

TEST_CASE("bank conflicts: conv2d_pool_backward_filter, none", "[bank_conflicts]") {
  require_free_tile(kFilterThreads);
}

TEST_CASE("bank conflicts: conv2d_pool_backward_filter_few, none", "[bank_conflicts]") {
  const int tile = (2 * kFewRows + 2) * kFewPitch;
  for (int begin = 0; begin < tile; begin += kFewRows * kWarpSize)
    CHECK(conflict_degree(kFewRows * kWarpSize, 1, [&](int thread) {
            const int64_t e = begin + thread;
            return e < tile ? e : -1;
          }) == 1);
  // Lanes in which every position of the window wins; the others read one of the four, too.
  CHECK(conflict_degree(kWarpSize, 1, [](int lane) {
          return int64_t{lane % 4 / 2} * kFewPitch + lane % 2;
        }) == 1);

  const auto sums = [](int warp, int tap, int lane) {  // sums[warp][tap][lane]
    return (int64_t(warp) * (kTaps + 1) + tap) * kWarpSize + lane;
  };
  for (int tap = 0; tap <= kTaps; ++tap)
    CHECK(conflict_degree(kFewRows * kWarpSize, 1, [&](int thread) {
            return sums(thread / kWarpSize, tap, thread % kWarpSize);
          }) == 1);
  for (int from = 0; from < kFewRows; ++from)
    CHECK(conflict_degree((kTaps + 1) * kWarpSize, 1,
                          [&](int e) { return sums(from, e / kWarpSize, e % kWarpSize); }) == 1);
}

// ---- the fused step: addresses in bytes; ldmatrix reads a matrix, eight rows of 16 bytes, at once -
TEST_CASE("bank conflicts: fused_conv_forward, none", "[bank_conflicts]") {
  using Tile = ConvForward;
  const int threads = Tile::kWarps * kWarpSize;
  CHECK(conflict_degree(8 * fused::kSide, 2, [](int e) { return e % 8 == 7 ? -1 : e * 2; }) == 1);
  CHECK(conflict_degree(16 * Tile::kChunks1, 4, [](int e) {
          return half_row_address(e / Tile::kChunks1, e % Tile::kChunks1) / 4;
        }) == 1);
  CHECK(conflict_degree(threads, 4, [](int e) { return full_row_address(e / 8, e % 8) / 4; }) == 1);

  for (int chunk = 0; chunk < Tile::kChunks1; ++chunk) {
    for (int q = 0; q < 4; ++q)
      CHECK(conflict_degree(16, 4, [&](int lane) {
              return half_row_address(Tile::filter_row(lane, q / 2, q % 2), chunk) / 4;
            }) == 1);
    for (int first = 0; first < fused::kPositions; first += 8) {
      CHECK(conflict_degree(kWarpSize, 1, [&](int lane) {
              const int w = first + lane / 4;
              const int row = position_row(w / fused::kSide1, w % fused::kSide1);
              return half_row_address(row, chunk) / 4 + lane % 4;
            }) == 1);
      CHECK(conflict_degree(kWarpSize, 1, [&](int lane) {
              return (Tile::code_address(first + lane / 4, chunk) + lane % 4 * 2) / 4;
            }) == 1);
    }
  }
  for (int first = 0; first < fused::kPositions; first += 8)
    for (int below = 0; below < 2; ++below)
      CHECK(conflict_degree(kWarpSize, 1, [&](int lane) {
              return Tile::pixel_address(first + lane / 4, lane % 4 + below * 4) / 4;
            }) == 1);

  for (int row = 0; row < fused::kTaps * fused::kChannels1; row += 16)
    for (int chunk = 0; chunk < 8; chunk += 2)
      CHECK(conflict_degree(kWarpSize, 4, [&](int lane) {
              return full_row_address(row + lane % 8 + lane / 16 * 8, chunk + lane / 8 % 2) / 4;
            }) == 1);
  for (int chunk = 0; chunk < Tile::kChunks1; chunk += 2) {
    for (int first : {0, 8, 16})
      for (int element = 0; element < 16; ++element)
        CHECK(conflict_degree(16, 4, [&](int lane) {
                const int row =
                    Tile::patch_row(first + lane % 8) + position_row(element / 4, element % 4);
                return half_row_address(row, chunk + lane / 8) / 4;
              }) == 1);
    for (int tap = 0; tap < 9; ++tap)
      CHECK(conflict_degree(16, 4, [&](int lane) {
              const int row = position_row(8 + tap / 3 + lane / 2 % 2, 8 + tap % 3 + lane % 2);
              return half_row_address(row, chunk + lane / 8) / 4;
            }) == 1);
  }

  constexpr int kVectors = fused::kPositions * Tile::kChunks1;
  CHECK(conflict_degree(kVectors, 4, [](int e) {
          const int position = e / Tile::kChunks1;
          const int row = position_row(position / fused::kSide1, position % fused::kSide1);
          return half_row_address(row, e % Tile::kChunks1) / 4;
        }) == 1);
  CHECK(conflict_degree(kVectors, 2, [](int e) {
          return Tile::code_address(e / Tile::kChunks1, e % Tile::kChunks1) / 4;
        }) == 1);
}

}  // namespace mnist::bank_conflicts
