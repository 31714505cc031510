// Runs a launcher in every way that must not matter: eagerly; captured into a graph that is
// replayed; and, on the cpu target, with the threads of a block (and the blocks) in several orders
// and on one OS thread, and with the prologues of dependent kernels before their predecessors. All
// outputs must be equal to the bit. On a slow device: only eagerly.
//
// Guard words around each buffer must survive; inputs must survive too; outputs and scratch
// start as NaN. An empty buffer is a null pointer.
//   DeviceCase device;
//   const float* x = device.input(h_x);
//   float* y = device.output<float>(size);
//   device.run([&](cudaStream_t stream) { launcher(y, x, size, stream); });
//   device.result(y)
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/slow_device.h"

namespace mnist::MNIST_TARGET {

class DeviceCase {
 public:
  DeviceCase() {
    cudaStream_t stream = nullptr;
    require_success(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    stream_.reset(stream);
  }

  template <typename T>
  const T* input(const std::vector<T>& values) {
    return static_cast<const T*>(add(Role::kInput, values.data(), values.size() * sizeof(T)));
  }
  // Starts from `values` in every run.
  template <typename T>
  T* in_out(const std::vector<T>& values) {
    return static_cast<T*>(add(Role::kOutput, values.data(), values.size() * sizeof(T)));
  }
  template <typename T>
  T* output(size_t size) {
    return static_cast<T*>(add(Role::kOutput, nullptr, size * sizeof(T)));
  }
  float* workspace(size_t floats) {
    return static_cast<float*>(add(Role::kScratch, nullptr, floats * sizeof(float)));
  }

  // launch(stream), `times` times in succession; a graph is captured once and replayed `times`
  // times.
  template <typename Launch>
  void run(Launch launch, int times = 1) {
    for (Buffer& buffer : buffers_) buffer.result.clear();
#ifdef MNIST_SIMT
    simt::set_os_threads(0);
    simt::set_thread_order(simt::ThreadOrder::kAscending, 0);
    simt::set_prologues_early(false);
#endif
    const auto eagerly = [&] {
      for (int i = 0; i < times; ++i) launch(stream());
    };
#ifdef MNIST_SIMT
    const int64_t dependent_before = simt::dependent_launches();
#endif
    execute("eager", eagerly);
    if (slow_device()) return;

    require_success(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
    launch(stream());
    cudaGraph_t captured = nullptr;
    require_success(cudaStreamEndCapture(stream(), &captured));
    const std::unique_ptr<Pointee<cudaGraph_t>, Destroy> graph(captured);
    cudaGraphExec_t instance = nullptr;
    require_success(cudaGraphInstantiate(&instance, captured, 0));
    const std::unique_ptr<Pointee<cudaGraphExec_t>, Destroy> executable(instance);
    for (const char* name : {"graph, first replay", "graph, second replay"})
      execute(name, [&] {
        for (int i = 0; i < times; ++i) require_success(cudaGraphLaunch(instance, stream()));
      });

#ifdef MNIST_SIMT
    simt::set_os_threads(1);
    simt::set_thread_order(simt::ThreadOrder::kDescending, 0);
    execute("descending threads", eagerly);
    simt::set_os_threads(0);
    simt::set_thread_order(simt::ThreadOrder::kShuffled, 20240229);
    execute("shuffled threads", eagerly);
    simt::set_thread_order(simt::ThreadOrder::kAscending, 0);
    if (simt::dependent_launches() > dependent_before) {
      simt::set_prologues_early(true);
      execute("early prologues", eagerly);
      simt::set_prologues_early(false);
    }
#endif
  }

  // What run() left in an output.
  template <typename T>
  std::vector<T> result(const T* pointer) const {
    for (const Buffer& buffer : buffers_)
      if (buffer.memory.get() + kGuard == reinterpret_cast<const std::byte*>(pointer)) {
        std::vector<T> values((buffer.result.size() - 2 * kGuard) / sizeof(T));
        std::memcpy(values.data(), buffer.result.data() + kGuard, values.size() * sizeof(T));
        return values;
      }
    FAIL("not a buffer of this case");
    return {};
  }

  cudaStream_t stream() const {
    return stream_.get();
  }

 private:
  enum class Role { kInput, kOutput, kScratch };

  template <typename Handle>
  using Pointee = std::remove_pointer_t<Handle>;
  struct Destroy {
    void operator()(std::byte* memory) const { (void)cudaFree(memory); }
    void operator()(cudaStream_t stream) const { (void)cudaStreamDestroy(stream); }
    void operator()(cudaGraph_t graph) const { (void)cudaGraphDestroy(graph); }
    void operator()(cudaGraphExec_t graph) const { (void)cudaGraphExecDestroy(graph); }
  };

  // Bytes of a guard, on both sides: keeps the alignment that cudaMalloc gives.
  static constexpr size_t kGuard = 256;
  // As a float it is a signalling NaN: a value read from outside a buffer shows up in the result,
  // and no arithmetic gives the word back, so that even x += 0 after the end is seen.
  static constexpr uint32_t kGuardWord = 0x7FA0DEAD;

  struct Buffer {
    Role role;
    std::vector<std::byte> initial;  // with the guards
    std::vector<std::byte> result;   // of the first way of running
    std::unique_ptr<std::byte, Destroy> memory;
  };

  static void require_success(cudaError_t code) {
    INFO(cudaGetErrorString(code));
    REQUIRE(code == cudaSuccess);
  }

  void* add(Role role, const void* values, size_t bytes) {
    if (bytes == 0) return nullptr;
    Buffer buffer{role, std::vector<std::byte>(bytes + 2 * kGuard, std::byte{0xFF}), {}, nullptr};
    for (size_t i = 0; i < kGuard; i += sizeof(kGuardWord))
      for (size_t begin : {size_t{0}, kGuard + bytes})
        std::memcpy(buffer.initial.data() + begin + i, &kGuardWord, sizeof(kGuardWord));
    if (values) std::memcpy(buffer.initial.data() + kGuard, values, bytes);
    void* memory = nullptr;
    require_success(cudaMalloc(&memory, buffer.initial.size()));
    buffer.memory.reset(static_cast<std::byte*>(memory));
    buffers_.push_back(std::move(buffer));
    return static_cast<std::byte*>(memory) + kGuard;
  }

  template <typename Body>
  void execute(const char* way, Body body) {
    INFO("run: " << way);
    for (Buffer& buffer : buffers_)
      require_success(cudaMemcpyAsync(buffer.memory.get(), buffer.initial.data(),
                                      buffer.initial.size(), cudaMemcpyHostToDevice, stream()));
    body();
    std::vector<std::byte> after;
    for (size_t i = 0; i < buffers_.size(); ++i) {
      Buffer& buffer = buffers_[i];
      after.resize(buffer.initial.size());
      require_success(cudaMemcpyAsync(after.data(), buffer.memory.get(), after.size(),
                                      cudaMemcpyDeviceToHost, stream()));
      require_success(cudaStreamSynchronize(stream()));

      INFO("buffer number " << i << " of " << after.size() - 2 * kGuard << " bytes");
      const size_t payload_end = after.size() - kGuard;
      require_equal("guard before it", after, buffer.initial, 0, kGuard);
      require_equal("guard after it", after, buffer.initial, payload_end, after.size());
      if (buffer.role == Role::kInput)
        require_equal("input", after, buffer.initial, kGuard, payload_end);
      if (buffer.role == Role::kOutput && !buffer.result.empty())
        require_equal("output, against the eager run", after, buffer.result, kGuard, payload_end);
      if (buffer.result.empty()) buffer.result = after;
    }
  }

  static void require_equal(const char* what, const std::vector<std::byte>& actual,
                            const std::vector<std::byte>& expected, size_t begin, size_t end) {
    const auto difference =
        std::mismatch(actual.begin() + std::ptrdiff_t(begin), actual.begin() + std::ptrdiff_t(end),
                      expected.begin() + std::ptrdiff_t(begin));
    const auto first_change = difference.first - actual.begin();
    INFO(what << ": first changed byte at offset " << first_change - std::ptrdiff_t(kGuard));
    REQUIRE(first_change == std::ptrdiff_t(end));
  }

  std::unique_ptr<Pointee<cudaStream_t>, Destroy> stream_;
  std::vector<Buffer> buffers_;
};

}  // namespace mnist::MNIST_TARGET
