// Owners of streams, events and captured graphs.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "kernels/check.h"

namespace mnist::MNIST_TARGET {

// Kernels of high priority get a multiprocessor first: those that a step waits for most. Others run
// beside them.
enum class Priority { kHigh, kLow };

class Stream {
 public:
  explicit Stream(Priority priority = Priority::kHigh) {
    int least = 0, greatest = 0;
    CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                            priority == Priority::kHigh ? greatest : least));
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }
  void synchronize() const { CUDA_CHECK(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { CUDA_CHECK(cudaEventRecord(event_, stream)); }
  // An event that was never recorded counts as past.
  void make_wait(cudaStream_t stream) const { CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0)); }
  void synchronize() const { CUDA_CHECK(cudaEventSynchronize(event_)); }

 private:
  cudaEvent_t event_ = nullptr;
};

// A sequence of launches, recorded once and replayed by one call.
class Graph {
 public:
  Graph() = default;
  ~Graph() {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
  }
  Graph(Graph&& other) noexcept
      : exec_(std::exchange(other.exec_, nullptr)), nodes_(other.nodes_) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(exec_, other.exec_);
    nodes_ = other.nodes_;
    return *this;
  }

  // Records what `enqueue` puts into the stream; nothing runs.
  template <typename Enqueue>
  static Graph capture(cudaStream_t stream, Enqueue&& enqueue) {
    // Relaxed: a kernel is loaded at its first launch, which drivers of CUDA 12.0 to 12.2 may
    // refuse in the other modes.
    CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    cudaGraph_t graph = nullptr;
    try {
      enqueue();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    Graph result;
    cudaError_t code = cudaGraphGetNodes(graph, nullptr, &result.nodes_);
    if (code == cudaSuccess) code = cudaGraphInstantiate(&result.exec_, graph, 0);
    cudaGraphDestroy(graph);
    CUDA_CHECK(code);
    return result;
  }

  void launch(cudaStream_t stream) const { CUDA_CHECK(cudaGraphLaunch(exec_, stream)); }
  explicit operator bool() const { return exec_ != nullptr; }
  size_t nodes() const { return nodes_; }

 private:
  cudaGraphExec_t exec_ = nullptr;
  size_t nodes_ = 0;
};

}  // namespace mnist::MNIST_TARGET
