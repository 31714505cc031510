// The device side of CUDA C++: built-in variables, barriers, warp collectives, atomics.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/simt/vector_types.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
// All threads of a block run on one OS thread, one after the other: what is local to that thread is
// shared by the block. `constinit` spares every access the test for dynamic initialisation.
#define __shared__ constinit thread_local

// Dynamic shared memory; kernels declare it at namespace scope, outside of any namespace.
extern constinit thread_local unsigned char dynamic_smem[];

namespace simt {

inline constexpr int warpSize = 32;

extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;

// A place in the source, for messages.
struct Site {
  const char* file;
  int line;
  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
};

enum class Collective { kSyncWarp, kShuffle, kVote, kReduce, kTogether };

// Implemented by scheduler.cpp. Both return when all the threads concerned have arrived.
void block_barrier(Site site);
// Deposits `value` for the lanes of `mask`; returns the 32 deposited values. They stay valid until
// this lane's next collective.
const uint64_t* warp_collective(Collective kind, unsigned mask, uint64_t value, Site site);
// All 32 lanes meet, and the last one to arrive does the work for all: work(lanes), lanes[i] being
// what lane i brought.
using WarpWork = void (*)(void* const* lanes);
void warp_together(WarpWork work, void* lane, Site site);
unsigned lane_id();

// What ptx.cuh needs; implemented by scheduler.cpp.
// Aborts unless the 16 bytes at p are aligned to 16 and in the block's dynamic shared memory.
void check_shared_16(const void* p, Site site);
void copy_async_16(void* shared, const void* global, Site site);
void commit_copies();
void await_copies(int later_groups);
void await_predecessor(Site site);
void allow_dependents(Site site);

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SIMT_SITE) {
  block_barrier({file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) {
  warp_collective(Collective::kSyncWarp, mask, 0, {file, line});
}

inline void __threadfence() {
#if !defined(__SANITIZE_THREAD__)  // which knows no fences; the atomics below order memory as well
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

// ---- warp shuffles ------------------------------------------------------------------------------
template <typename T>
T shuffle(unsigned mask, T value, unsigned source, Site site) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const uint64_t* values = warp_collective(Collective::kShuffle, mask, bits, site);
  // A lane outside of the mask has deposited nothing; CUDA leaves the result undefined, here it is
  // all ones (NaN).
  bits = mask >> source & 1u ? values[source] : ~uint64_t(0);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_SITE) {
  const unsigned lane = lane_id();
  return shuffle(mask, value,
                 (lane & ~unsigned(width - 1)) | (unsigned(source) & unsigned(width - 1)),
                 {file, line});
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
  const unsigned lane = lane_id(), first = lane & ~unsigned(width - 1);
  return shuffle(mask, value, lane < first + delta ? lane : lane - delta, {file, line});
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
  const unsigned lane = lane_id(), end = (lane | unsigned(width - 1)) + 1;
  return shuffle(mask, value, lane + delta >= end ? lane : lane + delta, {file, line});
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIMT_SITE) {
  const unsigned lane = lane_id(), other = lane ^ unsigned(lane_mask);
  const bool inside = other < ((lane | unsigned(width - 1)) + 1);
  return shuffle(mask, value, inside ? other : lane, {file, line});
}

// ---- votes and integer reductions ---------------------------------------------------------------
inline unsigned vote(unsigned mask, bool predicate, Site site) {
  const uint64_t* values = warp_collective(Collective::kVote, mask, predicate, site);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1u && values[lane]) ballot |= 1u << lane;
  return ballot;
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_SITE) {
  return vote(mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, SIMT_SITE) {
  return vote(mask, predicate != 0, {file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_SITE) {
  return vote(mask, predicate != 0, {file, line}) == mask;
}

// ---- bits ---------------------------------------------------------------------------------------
// Zeros above the highest one; 32 for 0.
inline int __clz(int v) {
  return v == 0 ? 32 : __builtin_clz(unsigned(v));
}

// ---- integer atomics (kernels use no atomic on floats: every sum has a fixed order) -------------
template <typename T>
concept AtomicInteger = (std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));

template <AtomicInteger T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}

// ---- min and max --------------------------------------------------------------------------------
template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

}  // namespace simt
