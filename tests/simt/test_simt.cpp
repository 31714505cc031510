// The cpu target's CUDA runtime itself: what kernels and engine rely on, and the faults it must
// catch.

#include <cuda_runtime.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/launch.h"
#include "kernels/ptx.cuh"
#include "kernels/simt/fiber.h"
#include "tests/support/catch.h"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {

constexpr int kThreads = 96;  // three warps

// ---- kernels, good and bad ----------------------------------------------------------------------
// Every thread passes its value to the one `shift` places on, through shared memory.
__global__ void test_rotate_kernel(int* out, int shift) {
  __shared__ int values[kThreads];
  const int tid = int(threadIdx.x);
  for (int round = 0; round < 3; ++round) {
    values[tid] = tid * 10 + round;
    __syncthreads();
    out[(blockIdx.x * 3 + unsigned(round)) * kThreads + threadIdx.x] =
        values[(tid + shift) % kThreads];
    __syncthreads();
  }
}

// The same without its second barrier: a race.
__global__ void test_racing_kernel(int* out, int shift) {
  __shared__ int values[kThreads];
  const int tid = int(threadIdx.x);
  for (int round = 0; round < 3; ++round) {
    values[tid] = tid * 10 + round;
    __syncthreads();
    out[round * kThreads + tid] = values[(tid + shift) % kThreads];
  }
}

__global__ void test_index_kernel(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

__global__ void test_nothing_kernel() {}

__global__ void test_divergent_barrier_kernel() {
  if (threadIdx.x < 40) __syncthreads();
}
__global__ void test_two_barriers_kernel() {
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void test_early_exit_kernel() {
  if (threadIdx.x == 70) return;
  __syncthreads();
}
__global__ void test_wrong_mask_kernel() {
  __shfl_xor_sync(0x0000ffffu, 1, 1);
}
__global__ void test_missing_lane_kernel() {
  if (threadIdx.x % 32 != 5) __syncwarp();
}
__global__ void test_mixed_collectives_kernel() {
  if (threadIdx.x % 32 < 16)
    __syncwarp();
  else
    __ballot_sync(0xffffffffu, 1);
}
__global__ void test_warp_and_block_kernel() {
  if (threadIdx.x < 32) __syncwarp();
  __syncthreads();
  if (threadIdx.x == 0) __shfl_sync(0x3u, 1, 0);
  __syncthreads();
}

__global__ void test_warp_kernel(int* out) {
  const int lane = int(threadIdx.x % 32), tid = int(threadIdx.x);
  int sum = tid;
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  const int from7 = __shfl_sync(0xffffffffu, tid, 7);
  const int up = __shfl_up_sync(0xffffffffu, tid, 3);
  const int down = __shfl_down_sync(0xffffffffu, tid, 3, 8);
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  // Halves of a warp in collectives of their own.
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  int half_sum = 1;
  for (int offset = 8; offset > 0; offset /= 2) half_sum += __shfl_xor_sync(half, half_sum, offset);
  const double wide = __shfl_sync(0xffffffffu, tid + 0.5, 31);
  int* row = out + tid * 8;
  row[0] = sum;
  row[1] = from7;
  row[2] = up;
  row[3] = down;
  row[4] = int(odd);
  row[5] = half_sum;
  row[6] = int(wide * 2);
  row[7] = __any_sync(0xffffffffu, lane == 9) + 2 * __all_sync(0xffffffffu, lane >= 0) +
           4 * __all_sync(0xffffffffu, lane > 0);
}

__global__ void test_dynamic_kernel(float* out, int count) {
  float* values = reinterpret_cast<float*>(dynamic_smem);
  const bool poisoned = std::isnan(values[count - 1]);
  __syncthreads();
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) values[i] = float(i);
  __syncthreads();
  if (threadIdx.x == 0) *out = poisoned ? values[count - 1] : -1;
}

__global__ void test_add_kernel(float* x, float value) {
  x[threadIdx.x] += value;
}
__global__ void test_count_kernel(int* counter, unsigned long long* wide) {
  atomicAdd(counter, 1);
  atomicAdd(wide, 3ull);
}
// Needs a stack for each of its threads.
__global__ void test_mark_kernel(int* out) {
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

// The instructions of ptx.cuh, misused in a way of its own each.
enum class Misuse { kNone, kAlignment, kOutside, kStatic, kLaneLess, kTwoKinds };
__global__ void test_ldmatrix_kernel(Misuse misuse) {
  __shared__ __align__(16) unsigned char other[512];
  const unsigned lane = threadIdx.x;
  const void* row = dynamic_smem + lane * 16;
  if (misuse == Misuse::kAlignment && lane == 7) row = dynamic_smem + 8;
  if (misuse == Misuse::kOutside && lane == 31) row = dynamic_smem + 512;
  if (misuse == Misuse::kStatic) row = other + lane * 16;
  if (misuse == Misuse::kLaneLess && lane == 3) return;
  uint32_t r[4];
  if (misuse == Misuse::kTwoKinds && lane == 9)
    ldmatrix_x4_trans(r, row);
  else
    ldmatrix_x4(r, row);
}

enum class CopyMisuse { kNone, kAlignment, kSource, kOutside, kNotCommitted, kNotAwaited };
__global__ void test_copy_kernel(uint4* to, const uint4* from, CopyMisuse misuse) {
  const unsigned lane = threadIdx.x;
  unsigned char* shared = dynamic_smem + lane * 16;
  if (misuse == CopyMisuse::kAlignment) shared += 4;
  if (misuse == CopyMisuse::kOutside) shared += 512;
  const char* source = reinterpret_cast<const char*>(from + lane);
  if (misuse == CopyMisuse::kSource) source += 8;
  cp_async_16(shared, source);
  if (misuse != CopyMisuse::kNotCommitted) cp_async_commit();
  if (misuse != CopyMisuse::kNotAwaited) cp_async_wait<0>();
  to[lane] = *reinterpret_cast<uint4*>(shared);
}

// What two groups of copies have brought before, between and after the waits; out [32][2][3] words.
// The second source is changed after its copy has begun.
__global__ void test_late_copy_kernel(unsigned* out, unsigned* from) {
  const unsigned lane = threadIdx.x;
  const auto* shared = reinterpret_cast<const unsigned*>(dynamic_smem + lane * 32);
  unsigned* row = out + lane * 6;
  const auto look = [&](int when) {
    row[when] = shared[0];
    row[3 + when] = shared[4];
  };
  for (unsigned i = 0; i < 2; ++i) {
    cp_async_16(dynamic_smem + lane * 32 + i * 16, from + lane * 8 + i * 4);
    cp_async_commit();
  }
  from[lane * 8 + 4] += 1000;
  look(0);
  cp_async_wait<1>();
  look(1);
  cp_async_wait<0>();
  look(2);
}

// y = x + 1, where x is read and y is written before or after the wait.
enum class Order { kRight, kNoWait, kEarlyRelease, kReadsEarly, kCopiesEarly, kWritesEarly };
__global__ void test_dependent_add_kernel(float* y, const float* x, Order order) {
  const unsigned i = threadIdx.x;
  float v = order == Order::kReadsEarly ? x[i] : 0;
  if (order == Order::kCopiesEarly && i % 4 == 0) cp_async_16(dynamic_smem + i * 4, x + i);
  if (order == Order::kWritesEarly) y[i] = 0;
  if (order == Order::kEarlyRelease) griddepcontrol_launch_dependents();
  if (order != Order::kNoWait || i == 1) griddepcontrol_wait();
  if (order != Order::kReadsEarly) v = x[i];
  if (order == Order::kCopiesEarly) {
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    v = reinterpret_cast<const float*>(dynamic_smem)[i];
  }
  y[i] = v + 1;
  if (order != Order::kNoWait) griddepcontrol_launch_dependents();
}

// ---- helpers ------------------------------------------------------------------------------------
namespace {

template <typename T>
T* device(size_t count) {
  T* pointer = nullptr;
  CUDA_CHECK(cudaMalloc(&pointer, count * sizeof(T)));
  return pointer;
}

template <typename T>
std::vector<T> download(const T* pointer, size_t count) {
  std::vector<T> host(count);
  CUDA_CHECK(cudaMemcpy(host.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost));
  return host;
}

struct DefaultOrder {
  ~DefaultOrder() {
    set_thread_order(ThreadOrder::kAscending);
    set_os_threads(0);
  }
};

constexpr ThreadOrder kOrders[] = {ThreadOrder::kAscending, ThreadOrder::kDescending,
                                   ThreadOrder::kShuffled};

struct Outcome {
  int status;        // as of waitpid()
  std::string text;  // what was written to stderr
};

// Runs `program` in a child process, whose exit code is what it returns.
Outcome run_child(const std::function<int()>& program) {
  // Only this thread would survive the fork: let the runtime end its others first.
  DefaultOrder restore;
  set_os_threads(1);
  launch(test_nothing_kernel, dim3(1), dim3(1), nullptr);
  CUDA_CHECK(cudaDeviceSynchronize());
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(20);
    dup2(ends[1], STDERR_FILENO);
    try {
      _exit(program());
    } catch (const std::exception& error) {  // else the child would go on with the tests
      dprintf(STDERR_FILENO, "%s", error.what());
      _exit(99);
    }
  }
  close(ends[1]);
  Outcome outcome = {};
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
    outcome.text.append(buffer, size_t(n));
  close(ends[0]);
  REQUIRE(waitpid(child, &outcome.status, 0) == child);
  return outcome;
}

// What the program writes to stderr before it aborts; empty if it does not abort.
std::string abort_message(const std::function<void()>& program) {
  const Outcome outcome = run_child([&] {
    program();
    cudaDeviceSynchronize();
    return 0;
  });
  return WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT ? outcome.text : "";
}

std::string abort_message_of(void (*kernel)(), int os_threads = 1) {
  return abort_message([&] {
    set_os_threads(os_threads);
    launch(kernel, dim3(20), dim3(kThreads), nullptr);
  });
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

// ---- threads and barriers -----------------------------------------------------------------------
TEST_CASE("simt: every thread of every block runs once", "[simt]") {
  DefaultOrder restore;
  const dim3 grid(3, 2, 2), block(5, 4, 2);
  const size_t count = 12 * 40;
  for (const ThreadOrder order : kOrders) {
    for (const int os_threads : {1, 2, 5}) {
      set_thread_order(order, 42);
      set_os_threads(os_threads);
      unsigned* out = device<unsigned>(count);
      launch(test_index_kernel, grid, block, nullptr, out);
      const auto host = download(out, count);
      for (size_t i = 0; i < count; ++i) REQUIRE(host[i] == i / 40 * 1000 + i % 40);
      CUDA_CHECK(cudaFree(out));
    }
  }
}

TEST_CASE("simt: barriers order shared memory", "[simt]") {
  DefaultOrder restore;
  const size_t count = 4 * 3 * kThreads;
  for (const ThreadOrder order : kOrders) {
    for (const int shift : {1, 31, kThreads - 1}) {
      set_thread_order(order, 7);
      int* out = device<int>(count);
      launch(test_rotate_kernel, dim3(4), dim3(kThreads), nullptr, out, shift);
      const auto host = download(out, count);
      for (size_t i = 0; i < count; ++i)
        REQUIRE(host[i] == (int(i) % kThreads + shift) % kThreads * 10 + int(i) / kThreads % 3);
      CUDA_CHECK(cudaFree(out));
    }
  }
}

TEST_CASE("simt: a missing barrier shows in one of the thread orders", "[simt]") {
  DefaultOrder restore;
  std::vector<std::vector<int>> results;
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order, 3);
    int* out = device<int>(3 * kThreads);
    launch(test_racing_kernel, dim3(1), dim3(kThreads), nullptr, out, 1);
    results.push_back(download(out, 3 * kThreads));
    CUDA_CHECK(cudaFree(out));
  }
  CHECK((results[0] != results[1] || results[0] != results[2]));
}

TEST_CASE("simt: faults abort with kernel, block and threads", "[simt]") {
  const auto divergent = abort_message_of(test_divergent_barrier_kernel);
  CHECK(contains(divergent, "test_divergent_barrier_kernel, block (0,0,0)"));
  CHECK(contains(divergent, "returned while others wait at a barrier"));
  CHECK(contains(divergent, "threads at a barrier: 0-39 at "));
  CHECK(contains(abort_message_of(test_two_barriers_kernel), "others at"));
  const auto exited = abort_message_of(test_early_exit_kernel);
  CHECK(contains(exited, "thread 70 returned while others wait at a barrier"));
  CHECK(contains(abort_message_of(test_wrong_mask_kernel),
                 "own lane 16 is not in the mask 0000ffff"));
  CHECK(contains(abort_message_of(test_missing_lane_kernel), "has returned"));
  CHECK(contains(abort_message_of(test_mixed_collectives_kernel), "in another collective"));
  CHECK(contains(abort_message_of(test_warp_and_block_kernel), "deadlock"));
  // On whichever OS thread it happens.
  for (int i = 0; i < 5; ++i)
    CHECK(contains(abort_message_of(test_early_exit_kernel, 7), "test_early_exit_kernel, block ("));
  // And a sound kernel does not.
  CHECK(abort_message([] {
          set_os_threads(1);
          int* out = device<int>(3 * kThreads);
          launch(test_rotate_kernel, dim3(1), dim3(kThreads), nullptr, out, 1);
        }).empty());
}

// ---- warps --------------------------------------------------------------------------------------
TEST_CASE("simt: warp collectives", "[simt]") {
  DefaultOrder restore;
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order, 11);
    int* out = device<int>(kThreads * 8);
    launch(test_warp_kernel, dim3(1), dim3(kThreads), nullptr, out);
    const auto host = download(out, kThreads * 8);
    for (int tid = 0; tid < kThreads; ++tid) {
      const int* row = &host[size_t(tid) * 8];
      const int first = tid / 32 * 32, lane = tid % 32;
      REQUIRE(row[0] == 32 * first + 31 * 16);
      REQUIRE(row[1] == first + 7);
      REQUIRE(row[2] == (lane < 3 ? tid : tid - 3));
      REQUIRE(row[3] == (lane % 8 + 3 >= 8 ? tid : tid + 3));
      REQUIRE(unsigned(row[4]) == 0xaaaaaaaau);
      REQUIRE(row[5] == 16);
      REQUIRE(row[6] == 2 * (first + 31) + 1);
      REQUIRE(row[7] == 1 + 2);
    }
    CUDA_CHECK(cudaFree(out));
  }
}

// ---- instructions of ptx.cuh ---------------------------------------------------------------------
TEST_CASE("simt: a misused ldmatrix aborts", "[simt]") {
  const auto message = [](Misuse misuse) {
    return abort_message([misuse] {
      launch_with_shared(test_ldmatrix_kernel, dim3(2), dim3(32), 512, nullptr, misuse);
    });
  };
  CHECK(message(Misuse::kNone).empty());
  const auto alignment = message(Misuse::kAlignment);
  CHECK(contains(alignment, "test_ldmatrix_kernel, block (0,0,0): thread 7 at "));
  CHECK(contains(alignment, "test_simt.cpp:"));
  CHECK(contains(alignment, "not aligned to 16"));
  const auto outside = message(Misuse::kOutside);
  CHECK(contains(outside, "thread 31 at "));
  CHECK(contains(outside, "not in the block's dynamic shared memory"));
  CHECK(contains(message(Misuse::kStatic), "not in the block's dynamic shared memory"));
  CHECK(contains(message(Misuse::kLaneLess), "has returned"));
  CHECK(contains(message(Misuse::kTwoKinds), "in another collective"));
}

TEST_CASE("simt: a misused cp.async aborts", "[simt]") {
  const auto message = [](CopyMisuse misuse) {
    return abort_message([misuse] {
      uint4 *to = device<uint4>(32), *from = device<uint4>(33);
      launch_with_shared(test_copy_kernel, dim3(1), dim3(32), 512, nullptr, to, from, misuse);
    });
  };
  CHECK(message(CopyMisuse::kNone).empty());
  const auto alignment = message(CopyMisuse::kAlignment);
  CHECK(contains(alignment, "test_copy_kernel, block (0,0,0): thread 0 at "));
  CHECK(contains(alignment, "not aligned to 16"));
  CHECK(contains(message(CopyMisuse::kSource), "source of a copy is not aligned to 16"));
  CHECK(contains(message(CopyMisuse::kOutside), "not in the block's dynamic shared memory"));
  for (const CopyMisuse misuse : {CopyMisuse::kNotCommitted, CopyMisuse::kNotAwaited})
    CHECK(contains(message(misuse), "returned without having waited for 1 of its copies"));
}

TEST_CASE("simt: cp.async copies at the wait, and poisons until then", "[simt]") {
  DefaultOrder restore;
  for (const ThreadOrder order : kOrders) {
    set_thread_order(order, 5);
    std::vector<unsigned> source(32 * 8);
    for (size_t i = 0; i < source.size(); ++i) source[i] = unsigned(i);
    unsigned *from = device<unsigned>(source.size()), *out = device<unsigned>(32 * 6);
    CUDA_CHECK(cudaMemcpy(from, source.data(), source.size() * 4, cudaMemcpyHostToDevice));
    launch_with_shared(test_late_copy_kernel, dim3(1), dim3(32), 1024, nullptr, out, from);
    const auto host = download(out, 32 * 6);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned none = 0xffffffffu, first = lane * 8, second = lane * 8 + 4 + 1000;
      const std::vector<unsigned> want = {none, first, first, none, none, second};
      CHECK(std::vector<unsigned>(&host[lane * 6], &host[lane * 6] + 6) == want);
    }
    CUDA_CHECK(cudaFree(from));
    CUDA_CHECK(cudaFree(out));
  }
}

namespace {

// y = x + 1 and z = y + 1, from x = 1, 2, ..., with the second kernel dependent on the first.
// Returns the sum of z[0] - x[0] in four such turns, each of which begins with the z of the last.
float dependent_sum(Order order, bool as_graph, bool early) {
  set_prologues_early(early);
  float *x = device<float>(32), *y = device<float>(32);
  CUDA_CHECK(cudaMemset(x, 0, 128));
  CUDA_CHECK(cudaMemset(y, 0, 128));
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const auto turn = [&] {
    launch_dependent(test_dependent_add_kernel, dim3(1), dim3(32), 128, stream, y, x,
                     Order::kRight);
    launch_dependent(test_dependent_add_kernel, dim3(1), dim3(32), 128, stream, x, y, order);
  };
  if (as_graph) {
    CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < 2; ++i) turn();
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t exec = nullptr;
    CUDA_CHECK(cudaGraphInstantiate(&exec, graph));
    CUDA_CHECK(cudaGraphDestroy(graph));
    for (int i = 0; i < 2; ++i) CUDA_CHECK(cudaGraphLaunch(exec, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    CUDA_CHECK(cudaGraphExecDestroy(exec));
  } else {
    for (int i = 0; i < 4; ++i) turn();
    CUDA_CHECK(cudaStreamSynchronize(stream));
  }
  const float sum = download(x, 32)[31];
  CUDA_CHECK(cudaStreamDestroy(stream));
  CUDA_CHECK(cudaFree(x));
  CUDA_CHECK(cudaFree(y));
  set_prologues_early(false);
  return sum;
}

}  // namespace

TEST_CASE("simt: a prologue that reads what its predecessor writes gives other bits", "[simt]") {
  for (const bool as_graph : {false, true}) {
    for (const bool early : {false, true}) {
      CAPTURE(as_graph, early);
      CHECK(dependent_sum(Order::kRight, as_graph, early) == 8);
      // Early, y is still what the turn before has left there.
      CHECK(dependent_sum(Order::kReadsEarly, as_graph, early) == (early ? 4 : 8));
      CHECK(dependent_sum(Order::kCopiesEarly, as_graph, early) == (early ? 4 : 8));
    }
  }
}

TEST_CASE("simt: misused dependent launches abort", "[simt]") {
  for (const bool as_graph : {false, true}) {
    for (const bool early : {false, true}) {
      CAPTURE(as_graph, early);
      const auto message = [&](Order order) {
        return abort_message([=] { dependent_sum(order, as_graph, early); });
      };
      CHECK(message(Order::kRight).empty());
      CHECK(contains(message(Order::kNoWait), "thread 0 returned without griddepcontrol_wait()"));
      const auto release = message(Order::kEarlyRelease);
      CHECK(contains(release, "test_dependent_add_kernel, block (0,0,0): thread 0 at "));
      CHECK(contains(release, "lets the next kernel start before it has waited"));
      if (early)
        CHECK(contains(message(Order::kWritesEarly), "device memory was written: "));
      else
        CHECK(message(Order::kWritesEarly).empty());
    }
  }
}

TEST_CASE("simt: a plain launch may ignore dependences", "[simt]") {
  set_prologues_early(true);
  float *x = device<float>(32), *y = device<float>(32);
  CUDA_CHECK(cudaMemset(x, 0, 128));
  for (const Order order : {Order::kNoWait, Order::kEarlyRelease, Order::kReadsEarly}) {
    launch_with_shared(test_dependent_add_kernel, dim3(1), dim3(32), 0, nullptr, y, x, order);
    launch_with_shared(test_dependent_add_kernel, dim3(1), dim3(32), 0, nullptr, x, y, order);
  }
  set_prologues_early(false);
  CHECK(download(x, 32)[31] == 6);
  CUDA_CHECK(cudaFree(x));
  CUDA_CHECK(cudaFree(y));
}

TEST_CASE("simt: integer atomics over all blocks", "[simt]") {
  int* counter = device<int>(1);
  unsigned long long* wide = device<unsigned long long>(1);
  CUDA_CHECK(cudaMemset(counter, 0, sizeof *counter));
  CUDA_CHECK(cudaMemset(wide, 0, sizeof *wide));
  launch(test_count_kernel, dim3(1000), dim3(64), nullptr, counter, wide);
  CHECK(download(counter, 1)[0] == 64000);
  CHECK(download(wide, 1)[0] == 192000);
  CUDA_CHECK(cudaFree(counter));
  CUDA_CHECK(cudaFree(wide));
}

// ---- memory -------------------------------------------------------------------------------------
TEST_CASE("simt: dynamic shared memory is poisoned, and large sizes are opted into", "[simt]") {
  float* out = device<float>(1);
  const int count = 25000;  // 100 KB
  launch_with_shared(test_dynamic_kernel, dim3(1), dim3(64), size_t(count) * 4, nullptr, out,
                     count);
  CHECK(download(out, 1)[0] == float(count - 1));
  cudaLaunchConfig_t config = {};
  config.blockDim = dim3(64);
  config.dynamicSmemBytes = 101 * 1024;  // more than launch() has asked for
  CHECK(cudaLaunchKernelEx(&config, test_dynamic_kernel, out, count) == cudaErrorInvalidValue);
  config.dynamicSmemBytes = 0;
  config.blockDim = dim3(1025);
  CHECK(cudaLaunchKernelEx(&config, test_dynamic_kernel, out, count) ==
        cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaSuccess);
  CUDA_CHECK(cudaFree(out));
}

TEST_CASE("simt: fresh memory holds NaN", "[simt]") {
  float* memory = device<float>(100);
  for (const float value : download(memory, 100)) REQUIRE(std::isnan(value));
  CUDA_CHECK(cudaFree(memory));
}

TEST_CASE("simt: the n-th allocation fails, once", "[simt]") {
  const int before = live_allocations();
  fail_allocation(2);
  void *first = nullptr, *second = nullptr, *third = nullptr;
  CHECK(cudaMalloc(&first, 16) == cudaSuccess);
  CHECK(cudaMallocHost(&second, 16) == cudaErrorMemoryAllocation);
  CHECK(second == nullptr);
  CHECK(cudaMalloc(&third, 16) == cudaSuccess);
  CHECK(live_allocations() == before + 2);
  CHECK(cudaFreeHost(third) == cudaErrorInvalidValue);  // wrong kind
  CHECK(cudaFree(first) == cudaSuccess);
  CHECK(cudaFree(third) == cudaSuccess);
  CHECK(cudaFree(third) == cudaErrorInvalidValue);  // freed twice
  CHECK(live_allocations() == before);
  cudaGetLastError();
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they need the memory
namespace {

// Leaves this process `bytes` more of address space than it has now.
void limit_memory(size_t bytes) {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const size_t limit = pages * size_t(sysconf(_SC_PAGESIZE)) + bytes;
  const rlimit both = {limit, limit};
  setrlimit(RLIMIT_AS, &both);
}

}  // namespace

TEST_CASE("simt: no memory for the stacks of threads is an error that stays", "[simt]") {
  for (const int os_threads : {1, 7}) {
    const Outcome outcome = run_child([&] {
      set_os_threads(os_threads);
      const unsigned blocks = 64, threads = 1024;
      const int before = live_allocations();
      int* out = device<int>(blocks * threads);
      launch(test_mark_kernel, dim3(blocks), dim3(1), nullptr, out);
      if (cudaDeviceSynchronize() != cudaSuccess) return 1;
      limit_memory(size_t(8) << 20);
      launch(test_mark_kernel, dim3(blocks), dim3(threads), nullptr, out);
      if (cudaDeviceSynchronize() != cudaErrorMemoryAllocation) return 2;
      if (cudaGetLastError() != cudaErrorMemoryAllocation) return 3;
      // As on a GPU, nothing runs after that: not what had been enqueued, nor what is now.
      if (cudaMemsetAsync(out, 0, sizeof *out) != cudaSuccess) return 8;
      int copy = 0;
      if (cudaMemcpy(&copy, out, sizeof copy, cudaMemcpyDeviceToHost) != cudaErrorMemoryAllocation)
        return 4;
      if (*out != 1) return 9;
      if (cudaGetLastError() != cudaErrorMemoryAllocation) return 5;
      if (cudaFree(out) != cudaErrorMemoryAllocation) return 6;
      return live_allocations() == before ? 0 : 7;
    });
    INFO(outcome.text);
    CHECK(outcome.status == 0);
  }
}

TEST_CASE("simt: threads that cannot be created are done without", "[simt]") {
  const Outcome outcome = run_child([] {
    const unsigned blocks = 500;
    unsigned* out = device<unsigned>(blocks * kThreads);
    limit_memory(size_t(40) << 20);
    set_os_threads(1000);
    launch(test_index_kernel, dim3(blocks), dim3(kThreads), nullptr, out);
    const auto host = download(out, blocks * kThreads);
    for (unsigned i = 0; i < host.size(); ++i)
      if (host[i] != i / kThreads * 1000 + i % kThreads) return 1;
    return 0;
  });
  INFO(outcome.text);
  CHECK(outcome.status == 0);
}

TEST_CASE("simt: more stacks than the system allows mappings for guard pages", "[simt]") {
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (int i = 0; i < 33000; ++i) fibers.push_back(std::make_unique<Fiber>(Fiber::WithStack{}));
  CHECK(fibers.size() == 33000);
}
#endif

TEST_CASE("simt: there is one device", "[simt]") {
  int count = 0, device = -1;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(cudaGetDevice(&device) == cudaSuccess);
  CHECK(device == 0);
  cudaDeviceProp properties;
  for (const int other : {-1, 1}) {
    CHECK(cudaSetDevice(other) == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
    CHECK(cudaGetDeviceProperties(&properties, other) == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  }
}

TEST_CASE("simt: copies check their ends", "[simt]") {
  float* memory = device<float>(4);
  float host[8] = {};
  CHECK(cudaMemcpy(memory, host, 16, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaMemcpy(memory, host, 17, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, memory + 1, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, memory, 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemset(host, 0, 16) == cudaErrorInvalidValue);
  CUDA_CHECK(cudaFree(memory));
  cudaGetLastError();
}

// ---- streams, events, graphs --------------------------------------------------------------------
namespace {

struct Streams {
  cudaStream_t a = nullptr, b = nullptr;
  cudaEvent_t event = nullptr, other = nullptr;
  float* x = device<float>(32);
  float* pinned = nullptr;
  Streams() {
    CUDA_CHECK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    CUDA_CHECK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreate(&other));
    CUDA_CHECK(cudaMallocHost(&pinned, 32 * sizeof(float)));
    CUDA_CHECK(cudaMemset(x, 0, 32 * sizeof(float)));
  }
  ~Streams() {
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaEventDestroy(event);
    cudaEventDestroy(other);
    cudaFree(x);
    cudaFreeHost(pinned);
    cudaGetLastError();
  }
  void add(float value, cudaStream_t stream) {
    launch(test_add_kernel, dim3(1), dim3(32), stream, x, value);
  }
  float first() { return download(x, 32)[0]; }
};

}  // namespace

TEST_CASE("simt: asynchronous work runs late, so that early reuse shows", "[simt]") {
  Streams s;
  for (int i = 0; i < 32; ++i) s.pinned[i] = 1;
  CUDA_CHECK(cudaMemcpyAsync(s.x, s.pinned, 128, cudaMemcpyHostToDevice, s.a));
  s.pinned[0] = 2;  // too early: the copy has not run
  CUDA_CHECK(cudaStreamSynchronize(s.a));
  CHECK(s.first() == 2);
  // Pageable memory is taken over at once, as by the driver.
  float pageable[32] = {5};
  CUDA_CHECK(cudaMemcpyAsync(s.x, pageable, 128, cudaMemcpyHostToDevice, s.a));
  pageable[0] = 6;
  CUDA_CHECK(cudaStreamSynchronize(s.a));
  CHECK(s.first() == 5);
}

TEST_CASE("simt: events order streams", "[simt]") {
  Streams s;
  s.pinned[0] = 10;
  CUDA_CHECK(cudaMemcpyAsync(s.x, s.pinned, 4, cudaMemcpyHostToDevice, s.a));
  CUDA_CHECK(cudaEventRecord(s.event, s.a));
  CUDA_CHECK(cudaStreamWaitEvent(s.b, s.event));
  s.add(1, s.b);
  CUDA_CHECK(cudaMemcpyAsync(s.pinned + 1, s.x, 4, cudaMemcpyDeviceToHost, s.b));
  CUDA_CHECK(cudaEventRecord(s.other, s.b));
  CHECK(cudaEventQuery(s.other) == cudaErrorNotReady);
  CUDA_CHECK(cudaEventSynchronize(s.other));
  CHECK(cudaEventQuery(s.other) == cudaSuccess);
  CHECK(s.pinned[1] == 11);
  // Polling alone gets there too.
  s.add(1, s.a);
  s.add(1, s.a);
  CUDA_CHECK(cudaEventRecord(s.event, s.a));
  int polls = 0;
  while (cudaEventQuery(s.event) == cudaErrorNotReady && polls < 100) ++polls;
  CHECK(cudaEventQuery(s.event) == cudaSuccess);
  CHECK(s.first() == 13);
}

TEST_CASE("simt: graphs freeze arguments and replay", "[simt]") {
  Streams s;
  float value = 1;
  CUDA_CHECK(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeThreadLocal));
  s.add(value, s.a);
  CHECK(cudaStreamSynchronize(s.a) == cudaErrorStreamCaptureUnsupported);
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, 16) == cudaErrorStreamCaptureUnsupported);
  // Fork to the other stream and join.
  CUDA_CHECK(cudaEventRecord(s.event, s.a));
  CUDA_CHECK(cudaStreamWaitEvent(s.b, s.event));
  s.add(10, s.b);
  CUDA_CHECK(cudaEventRecord(s.other, s.b));
  CUDA_CHECK(cudaStreamWaitEvent(s.a, s.other));
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamEndCapture(s.a, &graph));
  size_t nodes = 0;
  CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
  CHECK(nodes == 2);
  CHECK(s.first() == 0);  // capturing runs nothing
  value = 100;
  cudaGraphExec_t exec = nullptr;
  CUDA_CHECK(cudaGraphInstantiate(&exec, graph));
  CUDA_CHECK(cudaGraphDestroy(graph));
  for (int i = 0; i < 3; ++i) CUDA_CHECK(cudaGraphLaunch(exec, s.a));
  CUDA_CHECK(cudaStreamSynchronize(s.a));
  CHECK(s.first() == 33);
  CUDA_CHECK(cudaGraphExecDestroy(exec));
}

TEST_CASE("simt: a capture that is not joined is refused", "[simt]") {
  Streams s;
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(s.a, &graph) == cudaErrorStreamCaptureUnmatched);
  CUDA_CHECK(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeThreadLocal));
  CUDA_CHECK(cudaEventRecord(s.event, s.a));
  CUDA_CHECK(cudaStreamWaitEvent(s.b, s.event));
  s.add(1, s.b);
  CHECK(cudaStreamEndCapture(s.a, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);
  // Both streams are usable again.
  s.add(1, s.b);
  CUDA_CHECK(cudaStreamSynchronize(s.b));
  CHECK(s.first() == 1);
  CUDA_CHECK(cudaEventRecord(s.other, s.b));
  CUDA_CHECK(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeThreadLocal));
  CHECK(cudaStreamWaitEvent(s.a, s.other) == cudaErrorStreamCaptureIsolation);
  CUDA_CHECK(cudaStreamEndCapture(s.a, &graph));
  CUDA_CHECK(cudaGraphDestroy(graph));
}

TEST_CASE("simt: nodes that do not wait for each other run in any order", "[simt]") {
  const auto replayed = [](bool joined_before_copy, simt::ThreadOrder order, uint64_t seed) {
    Streams s;
    CUDA_CHECK(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeThreadLocal));
    s.add(1, s.a);
    CUDA_CHECK(cudaEventRecord(s.event, s.a));
    CUDA_CHECK(cudaStreamWaitEvent(s.b, s.event));
    s.add(10, s.b);
    CUDA_CHECK(cudaEventRecord(s.other, s.b));
    if (joined_before_copy) CUDA_CHECK(cudaStreamWaitEvent(s.a, s.other));
    CUDA_CHECK(cudaMemcpyAsync(s.pinned, s.x, 4, cudaMemcpyDeviceToHost, s.a));
    if (!joined_before_copy) CUDA_CHECK(cudaStreamWaitEvent(s.a, s.other));
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamEndCapture(s.a, &graph));
    cudaGraphExec_t exec = nullptr;
    CUDA_CHECK(cudaGraphInstantiate(&exec, graph));
    CUDA_CHECK(cudaGraphDestroy(graph));
    simt::set_thread_order(order, seed);
    CUDA_CHECK(cudaGraphLaunch(exec, s.a));
    CUDA_CHECK(cudaStreamSynchronize(s.a));
    simt::set_thread_order(simt::ThreadOrder::kAscending);
    CUDA_CHECK(cudaGraphExecDestroy(exec));
    return s.pinned[0];
  };
  using Order = simt::ThreadOrder;
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kShuffled})
    CHECK(replayed(true, order, 1) == 11);
  CHECK(replayed(false, Order::kAscending, 0) == 11);
  CHECK(replayed(false, Order::kDescending, 0) == 1);
  std::set<float> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) seen.insert(replayed(false, Order::kShuffled, seed));
  CHECK(seen == std::set<float>{1, 11});
}

TEST_CASE("simt: shuffled, streams also go on while they are given work", "[simt]") {
  std::set<float> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Streams s;
    simt::set_thread_order(simt::ThreadOrder::kShuffled, seed);
    s.add(1, s.a);
    CUDA_CHECK(cudaMemcpyAsync(s.pinned, s.x, 4, cudaMemcpyDeviceToHost, s.b));  // a race
    s.add(0, s.a);
    CUDA_CHECK(cudaStreamSynchronize(s.b));
    seen.insert(s.pinned[0]);
    CUDA_CHECK(cudaStreamSynchronize(s.a));
    simt::set_thread_order(simt::ThreadOrder::kAscending);
  }
  CHECK(seen == std::set<float>{0, 1});
}

TEST_CASE("simt: prologues overlap the kernel before them alone", "[simt]") {
  set_prologues_early(true);
  Streams s;
  float* y = device<float>(32);
  const auto read = [&] {
    launch_dependent(test_dependent_add_kernel, dim3(1), dim3(32), 0, s.a, y, s.x,
                     Order::kReadsEarly);
    CUDA_CHECK(cudaStreamSynchronize(s.a));
    return download(y, 32)[0];
  };
  s.add(1, s.a);
  CHECK(read() == 1);  // not yet
  CHECK(read() == 2);  // nothing is running any more
  s.add(1, s.a);
  CUDA_CHECK(cudaStreamSynchronize(s.a));
  CHECK(read() == 3);
  s.add(1, s.a);
  CUDA_CHECK(cudaMemsetAsync(y, 0, 128, s.a));
  CHECK(read() == 4);
  s.add(1, s.a);
  s.add(1, s.a);
  CHECK(read() == 5);  // the first of the two has ended
  set_prologues_early(false);
  CUDA_CHECK(cudaFree(y));
}

TEST_CASE("simt: calls are counted, and the device's work can be left out", "[simt]") {
  Streams s;
  s.add(0, s.a);  // the first launch of a kernel sets its attributes
  CUDA_CHECK(cudaStreamSynchronize(s.a));
  const auto before = simt::calls();
  simt::skip_device_work(true);
  s.add(1, s.a);
  s.add(1, s.a);
  CUDA_CHECK(cudaEventRecord(s.event, s.a));
  CUDA_CHECK(cudaEventSynchronize(s.event));
  simt::skip_device_work(false);
  auto after = simt::calls();
  for (const auto& [name, count] : before) after[name] -= count;
  std::erase_if(after, [](const auto& entry) { return entry.second == 0; });
  CHECK(after == std::map<std::string, int64_t>{{"cudaLaunchKernelEx", 2},
                                                {"cudaEventRecord", 1},
                                                {"cudaEventSynchronize", 1}});
  CHECK(s.first() == 0);
  s.add(1, s.a);
  CUDA_CHECK(cudaStreamSynchronize(s.a));
  CHECK(s.first() == 1);
}

}  // namespace mnist::MNIST_TARGET
