// The runtime API on the host. Asynchronous work is queued and runs, in stream order, when the host
// waits for it: a host that reuses a pinned buffer too early, or forgets an event, gets wrong
// results here as it would on a GPU.

#include "kernels/simt/runtime_api.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/sysinfo.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kernels/simt/control.h"
#include "kernels/simt/scheduler.h"

namespace simt {

using Work = std::function<void()>;
using Clock = std::chrono::steady_clock;

// Operations recorded between BeginCapture and EndCapture, of all the streams that took part.
struct Capture {
  std::vector<Work> nodes;
};

struct Queue {
  std::deque<Work> pending;
  uint64_t enqueued = 0;  // operations ever put in
  uint64_t done = 0;      // operations run
  std::shared_ptr<Capture> capture;
  bool origin = false;    // began the capture
  bool unjoined = false;  // captured work that the origin does not wait for yet
};

struct Stream {
  std::shared_ptr<Queue> queue = std::make_shared<Queue>();
};

struct Event {
  std::shared_ptr<Queue> queue;  // where it was last recorded
  uint64_t position = 0;         // has happened once that queue has done so many operations
  std::shared_ptr<Capture> capture;
  std::shared_ptr<Clock::time_point> time;
};

struct Graph {
  std::shared_ptr<const std::vector<Work>> nodes;
};
struct GraphExec {
  std::shared_ptr<const std::vector<Work>> nodes;
};

namespace {

enum class MemoryKind { kDevice, kPinned };
struct Allocation {
  size_t bytes;
  MemoryKind kind;
};

struct Runtime {
  // Recursive: running a queued operation may wait for an event of another stream.
  std::recursive_mutex mutex;
  std::map<const char*, Allocation> allocations;
  std::map<const void*, size_t> dynamic_limit;  // per kernel, above 48 KB
  std::map<const void*, std::string> names;
  std::vector<std::weak_ptr<Queue>> queues;
  std::shared_ptr<Queue> default_queue = std::make_shared<Queue>();
  int fail_countdown = 0;
  cudaError_t last_error = cudaSuccess;
};

Runtime& runtime() {
  static Runtime instance;
  return instance;
}

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) runtime().last_error = error;
  return error;
}

#define SIMT_LOCK std::lock_guard simt_lock(runtime().mutex)

std::shared_ptr<Queue> queue_of(cudaStream_t stream) {
  return stream == nullptr ? runtime().default_queue : stream->queue;
}

void run_until(const std::shared_ptr<Queue>& queue, uint64_t position) {
  while (queue->done < position) {
    Work work = std::move(queue->pending.front());
    queue->pending.pop_front();
    work();
    ++queue->done;
  }
}

void enqueue(const std::shared_ptr<Queue>& queue, Work work) {
  if (queue->capture) {
    queue->capture->nodes.push_back(std::move(work));
    if (!queue->origin) queue->unjoined = true;
    return;
  }
  queue->pending.push_back(std::move(work));
  ++queue->enqueued;
}

bool capturing() {
  for (const auto& weak : runtime().queues)
    if (auto queue = weak.lock(); queue && queue->capture) return true;
  return false;
}

void drain_all() {
  auto queues = runtime().queues;
  run_until(runtime().default_queue, runtime().default_queue->enqueued);
  for (const auto& weak : queues)
    if (auto queue = weak.lock()) run_until(queue, queue->enqueued);
}

cudaError_t allocate(void** pointer, size_t bytes, MemoryKind kind) {
  SIMT_LOCK;
  Runtime& r = runtime();
  if (pointer == nullptr) return report(cudaErrorInvalidValue);
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (r.fail_countdown > 0 && --r.fail_countdown == 0) return report(cudaErrorMemoryAllocation);
  constexpr size_t kAlignment = 256;  // what cudaMalloc guarantees
  if (bytes > SIZE_MAX - kAlignment) return report(cudaErrorMemoryAllocation);
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return report(cudaErrorMemoryAllocation);
  std::memset(memory, 0xff, bytes);  // every float a NaN
  r.allocations[static_cast<char*>(memory)] = {bytes, kind};
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t release(void* pointer, MemoryKind kind) {
  SIMT_LOCK;
  if (pointer == nullptr) return cudaSuccess;
  auto& allocations = runtime().allocations;
  const auto found = allocations.find(static_cast<char*>(pointer));
  if (found == allocations.end() || found->second.kind != kind)
    return report(cudaErrorInvalidValue);
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  drain_all();  // cudaFree waits for work that may still use the memory
  allocations.erase(found);
  std::free(pointer);
  return cudaSuccess;
}

// The allocation that holds all of [pointer, pointer+bytes), or null.
const Allocation* find(const void* pointer, size_t bytes) {
  const auto& allocations = runtime().allocations;
  const char* begin = static_cast<const char*>(pointer);
  auto next = allocations.upper_bound(begin);
  if (next == allocations.begin()) return nullptr;
  const auto& [base, allocation] = *--next;
  const size_t offset = size_t(begin - base);
  if (offset > allocation.bytes || bytes > allocation.bytes - offset) return nullptr;
  return &allocation;
}

bool on_device(const void* pointer, size_t bytes) {
  const Allocation* allocation = find(pointer, bytes);
  return allocation != nullptr && allocation->kind == MemoryKind::kDevice;
}

// A device pointer given as the host side, or the reverse, is an error on a GPU too.
cudaError_t check_copy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = on_device(to, bytes), from_device = on_device(from, bytes);
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyHostToHost:
      return !to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDefault:
      return cudaSuccess;
  }
  return cudaErrorInvalidMemcpyDirection;
}

}  // namespace

// ---- control ------------------------------------------------------------------------------------
void fail_allocation(int nth) {
  SIMT_LOCK;
  runtime().fail_countdown = nth;
}

int live_allocations() {
  SIMT_LOCK;
  return int(runtime().allocations.size());
}

// ---- errors -------------------------------------------------------------------------------------
namespace {

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not begun on this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
};

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& entry : kErrors)
    if (entry.code == error) return entry.name;
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& entry : kErrors)
    if (entry.code == error) return entry.text;
  return "unknown error";
}
cudaError_t cudaGetLastError() {
  SIMT_LOCK;
  return std::exchange(runtime().last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  SIMT_LOCK;
  return runtime().last_error;
}

// ---- device -------------------------------------------------------------------------------------
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return report(cudaErrorInvalidDevice);
  *properties = {};
  std::string name = "processor";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      name = line.substr(colon + 2);
      break;
    }
  }
  std::strncpy(properties->name, name.c_str(), sizeof properties->name - 1);
  struct sysinfo info = {};
  if (sysinfo(&info) == 0) properties->totalGlobalMem = size_t(info.totalram) * info.mem_unit;
  properties->multiProcessorCount = os_threads();
  properties->sharedMemPerBlockOptin = kMaxDynamicBytes;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : report(cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  SIMT_LOCK;
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  drain_all();
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  struct sysinfo info = {};
  if (sysinfo(&info) != 0) return report(cudaErrorInvalidValue);
  *free = size_t(info.freeram) * info.mem_unit;
  *total = size_t(info.totalram) * info.mem_unit;
  return cudaSuccess;
}

// ---- memory -------------------------------------------------------------------------------------
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return allocate(pointer, bytes, MemoryKind::kDevice);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return allocate(pointer, bytes, MemoryKind::kPinned);
}
cudaError_t cudaFree(void* pointer) {
  return release(pointer, MemoryKind::kDevice);
}
cudaError_t cudaFreeHost(void* pointer) {
  return release(pointer, MemoryKind::kPinned);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  SIMT_LOCK;
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t error = check_copy(to, from, bytes, kind); error != cudaSuccess)
    return report(error);
  drain_all();
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  SIMT_LOCK;
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t error = check_copy(to, from, bytes, kind); error != cudaSuccess)
    return report(error);
  const auto queue = queue_of(stream);
  const bool pageable = kind == cudaMemcpyHostToDevice && find(from, bytes) == nullptr;
  if (pageable && !queue->capture) {
    // The GPU's driver takes pageable memory over into a staging buffer before it returns.
    enqueue(queue, [to, staged = std::vector<char>(static_cast<const char*>(from),
                                                   static_cast<const char*>(from) + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
    return cudaSuccess;
  }
  enqueue(queue, [to, from, bytes] { std::memcpy(to, from, bytes); });
  if (kind == cudaMemcpyDeviceToHost && find(to, bytes) == nullptr && !queue->capture)
    run_until(queue, queue->enqueued);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  SIMT_LOCK;
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (!on_device(to, bytes)) return report(cudaErrorInvalidValue);
  drain_all();
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  SIMT_LOCK;
  if (bytes == 0) return cudaSuccess;
  if (!on_device(to, bytes)) return report(cudaErrorInvalidValue);
  enqueue(queue_of(stream), [to, value, bytes] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

// ---- streams and events -------------------------------------------------------------------------
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  SIMT_LOCK;
  *stream = new Stream;
  auto& queues = runtime().queues;
  std::erase_if(queues, [](const auto& weak) { return weak.expired(); });
  queues.push_back((*stream)->queue);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  SIMT_LOCK;
  if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
  stream->queue->capture.reset();
  run_until(stream->queue, stream->queue->enqueued);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  SIMT_LOCK;
  const auto queue = queue_of(stream);
  if (queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  run_until(queue, queue->enqueued);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  SIMT_LOCK;
  const auto queue = queue_of(stream);
  if (queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  if (queue->done == queue->enqueued) return cudaSuccess;
  run_until(queue, queue->done + 1);  // a poll sees progress
  return queue->done == queue->enqueued ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  SIMT_LOCK;
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  const auto queue = queue_of(stream);
  event->queue = queue;
  event->capture = queue->capture;
  if (queue->capture) return cudaSuccess;
  event->time = std::make_shared<Clock::time_point>();
  enqueue(queue, [time = event->time] { *time = Clock::now(); });
  event->position = queue->enqueued;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  SIMT_LOCK;
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (!event->queue) return cudaSuccess;  // never recorded: nothing to wait for
  const auto queue = queue_of(stream);
  if (event->capture) {
    if (queue->capture && queue->capture != event->capture)
      return report(cudaErrorStreamCaptureIsolation);
    // Nodes replay in the order of capture, which respects every dependence; what remains is to
    // know that a stream took part, and that the origin waited for it.
    if (!queue->capture) queue->capture = event->capture;
    if (queue->origin) event->queue->unjoined = false;
    return cudaSuccess;
  }
  if (queue->capture) return report(cudaErrorStreamCaptureIsolation);
  enqueue(queue,
          [other = event->queue, position = event->position] { run_until(other, position); });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  SIMT_LOCK;
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (event->capture) return report(cudaErrorStreamCaptureUnsupported);
  if (event->queue) run_until(event->queue, event->position);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  SIMT_LOCK;
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (event->capture) return report(cudaErrorStreamCaptureUnsupported);
  if (!event->queue || event->queue->done >= event->position) return cudaSuccess;
  run_until(event->queue, event->queue->done + 1);  // a poll sees progress
  return event->queue->done >= event->position ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  SIMT_LOCK;
  if (begin == nullptr || end == nullptr || !begin->time || !end->time)
    return report(cudaErrorInvalidResourceHandle);
  if (begin->queue->done < begin->position || end->queue->done < end->position)
    return report(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *begin->time).count();
  return cudaSuccess;
}

// ---- graphs -------------------------------------------------------------------------------------
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  SIMT_LOCK;
  if (stream == nullptr || stream->queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  stream->queue->capture = std::make_shared<Capture>();
  stream->queue->origin = true;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  SIMT_LOCK;
  *graph = nullptr;
  if (stream == nullptr || !stream->queue->capture || !stream->queue->origin)
    return report(cudaErrorStreamCaptureUnmatched);
  const auto capture = stream->queue->capture;
  bool unjoined = false;
  for (const auto& weak : runtime().queues) {
    auto queue = weak.lock();
    if (!queue || queue->capture != capture) continue;
    unjoined |= queue->unjoined;
    queue->capture.reset();
    queue->origin = queue->unjoined = false;
  }
  if (unjoined) return report(cudaErrorStreamCaptureUnjoined);
  *graph = new Graph{std::make_shared<const std::vector<Work>>(std::move(capture->nodes))};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return report(cudaErrorInvalidValue);
  *exec = new GraphExec{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  SIMT_LOCK;
  if (exec == nullptr) return report(cudaErrorInvalidResourceHandle);
  const auto queue = queue_of(stream);
  if (queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  enqueue(queue, [nodes = exec->nodes] {
    for (const Work& node : *nodes) node();
  });
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (graph == nullptr || nodes != nullptr) return report(cudaErrorInvalidValue);
  *count = graph->nodes->size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  SIMT_LOCK;
  delete exec;
  return cudaSuccess;
}

// ---- launches -----------------------------------------------------------------------------------
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int value) {
  SIMT_LOCK;
  if (value < 0 || size_t(value) > kMaxDynamicBytes) return report(cudaErrorInvalidValue);
  runtime().dynamic_limit[function] = size_t(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  SIMT_LOCK;
  std::string& known = runtime().names[function];
  if (known.empty()) {
    Dl_info info = {};
    known = "?";
    if (dladdr(function, &info) != 0 && info.dli_sname != nullptr) {
      int status = 0;
      char* demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
      known = status == 0 ? demangled : info.dli_sname;
      std::free(demangled);
      known = known.substr(0, known.find('('));
    }
  }
  *name = known.c_str();
  return cudaSuccess;
}

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* function,
                           std::function<void()> thread) {
  SIMT_LOCK;
  constexpr size_t kPlainDynamicBytes = 48 * 1024;
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || threads == 0 || threads > 1024 || block.z > 64)
    return report(cudaErrorInvalidConfiguration);
  if (config.dynamicSmemBytes > kPlainDynamicBytes) {
    const auto& limits = runtime().dynamic_limit;
    const auto limit = limits.find(function);
    if (limit == limits.end() || config.dynamicSmemBytes > limit->second)
      return report(cudaErrorInvalidValue);
  }
  enqueue(queue_of(config.stream), [launch = Launch{function, grid, block, config.dynamicSmemBytes,
                                                    std::move(thread)}] { run_grid(launch); });
  return cudaSuccess;
}

}  // namespace simt
