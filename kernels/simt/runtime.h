// What the files of the runtime API share: its lock, its errors and its queues. Everything here
// is used under the lock.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/simt/runtime_api.h"

namespace simt {

using Work = std::function<void()>;

// An operation of a graph, and the numbers of those that must have run before it.
struct Node {
  Work work;
  std::vector<size_t> after;
};

// Operations recorded between BeginCapture and EndCapture, of all the streams that took part.
struct Capture {
  std::vector<Node> nodes;
};

struct Places;

// Operations of one stream, in their order.
struct Queue {
  std::deque<Work> pending;
  uint64_t enqueued = 0;            // operations ever put in
  uint64_t done = 0;                // operations taken out and run
  std::shared_ptr<Places> changed;  // by the last operation, if it is a kernel (early.h)
  std::shared_ptr<Capture> capture;
  std::vector<size_t> last;  // nodes that the next one captured here comes after
  bool origin = false;       // began the capture
  bool unjoined = false;     // captured work that the origin does not wait for yet
};

// An event may outlive the stream that it was recorded in: they share the queue.
struct SimtStream {
  std::shared_ptr<Queue> queue = std::make_shared<Queue>();
};

struct Runtime {
  std::mutex mutex;
  cudaError_t last_error = cudaSuccess;
  // Of the first operation that failed while it ran. As on a GPU it stays: no later operation runs,
  // and everything that waits returns it.
  cudaError_t failure = cudaSuccess;
  std::vector<std::weak_ptr<Queue>> queues;  // of all streams but the default one
  std::shared_ptr<Queue> default_queue = std::make_shared<Queue>();
  std::unordered_map<const char*, int64_t> calls;  // by the name of the function
  int64_t nodes_launched = 0;
  int64_t dependent_launches = 0;
  bool skip_work = false;
};
Runtime& runtime();

// Every call of the API begins with it, and is counted under the name of the function.
inline std::unique_lock<std::mutex> lock_runtime(const char* caller = __builtin_FUNCTION()) {
  std::unique_lock lock(runtime().mutex);
  ++runtime().calls[caller];
  return lock;
}

// Returns `error`, after noting it for cudaGetLastError().
cudaError_t report(cudaError_t error);

std::shared_ptr<Queue> queue_of(cudaStream_t stream);
void enqueue(Queue& queue, Work work);
// Runs what the queue holds up to operation number `position`. Returns runtime().failure.
cudaError_t run_until(Queue& queue, uint64_t position);
// The same for all that every queue holds.
cudaError_t run_all();
// All allocations of device memory (memory.cpp).
std::vector<std::span<char>> device_memory();
// Whether any stream is being captured.
bool capturing();

}  // namespace simt
