// Streams and events. Asynchronous work is queued and runs, in stream order, when the host waits
// for it: a host that reuses a pinned buffer too early, or forgets an event, gets wrong results
// here as it would on a GPU.

#include <algorithm>
#include <chrono>
#include <new>
#include <string_view>
#include <utility>

#include "kernels/simt/runtime.h"
#include "kernels/simt/scheduler.h"

namespace simt {

using Clock = std::chrono::steady_clock;

struct SimtEvent {
  std::shared_ptr<Queue> queue;  // where it was last recorded
  uint64_t position = 0;         // has happened once that queue has done so many operations
  std::shared_ptr<Capture> capture;
  std::vector<size_t> nodes;  // of the capture, that it stands for
  std::shared_ptr<Clock::time_point> time;
};

Runtime& runtime() {
  static Runtime instance;
  return instance;
}

// ---- queues -------------------------------------------------------------------------------------
std::shared_ptr<Queue> queue_of(cudaStream_t stream) {
  return stream == nullptr ? runtime().default_queue : stream->queue;
}

namespace {

// Some streams go one step on, as on a GPU, where none waits for the host.
void run_some() {
  const auto maybe_step = [](Queue& queue) {
    if (queue.done < queue.enqueued && random_below(2) == 0) run_until(queue, queue.done + 1);
  };
  maybe_step(*runtime().default_queue);
  for (const auto& weak : runtime().queues)
    if (const auto queue = weak.lock()) maybe_step(*queue);
}

}  // namespace

void enqueue(Queue& queue, Work work) {
  queue.changed.reset();
  if (queue.capture) {
    std::vector<Node>& nodes = queue.capture->nodes;
    nodes.push_back({std::move(work), std::exchange(queue.last, {nodes.size()})});
    if (!queue.origin) queue.unjoined = true;
    return;
  }
  ++queue.enqueued;
  if (runtime().skip_work) {
    ++queue.done;
    return;
  }
  queue.pending.push_back(std::move(work));
  if (schedule().order == ThreadOrder::kShuffled) run_some();
}

std::map<std::string, int64_t> calls() {
  const std::lock_guard lock(runtime().mutex);
  std::map<std::string, int64_t> by_name;
  for (const auto& [name, count] : runtime().calls)
    if (std::string_view(name).starts_with("cuda")) by_name[name] = count;
  return by_name;
}

void skip_device_work(bool skip) {
  const auto lock = lock_runtime();
  runtime().skip_work = skip;
}

cudaError_t run_until(Queue& queue, uint64_t position) {
  while (queue.done < position) {
    const Work work = std::move(queue.pending.front());
    queue.pending.pop_front();
    ++queue.done;  // whatever becomes of it
    if (runtime().failure != cudaSuccess) continue;
    try {
      work();
    } catch (const std::bad_alloc&) {  // for the stacks of a kernel's threads
      runtime().failure = cudaErrorMemoryAllocation;
    }
  }
  return runtime().failure;
}

cudaError_t run_all() {
  run_until(*runtime().default_queue, runtime().default_queue->enqueued);
  for (const auto& weak : runtime().queues)
    if (const auto queue = weak.lock()) run_until(*queue, queue->enqueued);
  return runtime().failure;
}

bool capturing() {
  return std::ranges::any_of(runtime().queues, [](const auto& weak) {
    const auto queue = weak.lock();
    return queue && queue->capture;
  });
}

cudaError_t cudaDeviceSynchronize() {
  const auto lock = lock_runtime();
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  return report(run_all());
}

// ---- streams ------------------------------------------------------------------------------------
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  const auto lock = lock_runtime();
  *least = 0;
  *greatest = -1;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  const auto lock = lock_runtime();
  *stream = new SimtStream;
  auto& queues = runtime().queues;
  std::erase_if(queues, [](const auto& weak) { return weak.expired(); });
  queues.push_back((*stream)->queue);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto lock = lock_runtime();
  if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
  stream->queue->capture.reset();
  const cudaError_t error = run_until(*stream->queue, stream->queue->enqueued);
  delete stream;
  return report(error);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto lock = lock_runtime();
  const auto queue = queue_of(stream);
  if (queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  return report(run_until(*queue, queue->enqueued));
}

// ---- events -------------------------------------------------------------------------------------
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const auto lock = lock_runtime();
  *event = new SimtEvent;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const auto lock = lock_runtime();
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto lock = lock_runtime();
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  const auto queue = queue_of(stream);
  event->queue = queue;
  event->capture = queue->capture;
  event->nodes = queue->last;
  if (queue->capture) return cudaSuccess;
  event->time = std::make_shared<Clock::time_point>();
  enqueue(*queue, [time = event->time] { *time = Clock::now(); });
  event->position = queue->enqueued;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto lock = lock_runtime();
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (!event->queue) return cudaSuccess;  // never recorded: nothing to wait for
  const auto queue = queue_of(stream);
  if (event->capture) {
    if (queue->capture && queue->capture != event->capture)
      return report(cudaErrorStreamCaptureIsolation);
    if (!queue->capture) queue->capture = event->capture;
    queue->last.insert(queue->last.end(), event->nodes.begin(), event->nodes.end());
    if (queue->origin) event->queue->unjoined = false;
    return cudaSuccess;
  }
  if (queue->capture) return report(cudaErrorStreamCaptureIsolation);
  enqueue(*queue,
          [other = event->queue, position = event->position] { run_until(*other, position); });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto lock = lock_runtime();
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (event->capture) return report(cudaErrorStreamCaptureUnsupported);
  return event->queue ? report(run_until(*event->queue, event->position)) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto lock = lock_runtime();
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (event->capture) return report(cudaErrorStreamCaptureUnsupported);
  if (!event->queue || event->queue->done >= event->position) return report(runtime().failure);
  run_until(*event->queue, event->queue->done + 1);  // a poll sees progress
  return event->queue->done >= event->position ? report(runtime().failure) : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const auto lock = lock_runtime();
  if (begin == nullptr || end == nullptr || !begin->time || !end->time)
    return report(cudaErrorInvalidResourceHandle);
  if (begin->queue->done < begin->position || end->queue->done < end->position)
    return report(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *begin->time).count();
  return cudaSuccess;
}

}  // namespace simt
