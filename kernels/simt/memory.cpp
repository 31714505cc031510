// Device memory and pinned memory, both from the heap, and copies, which check both of their ends
// against the allocations.

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "kernels/simt/control.h"
#include "kernels/simt/runtime.h"

namespace simt {

namespace {

enum class MemoryKind { kDevice, kPinned };
struct Allocation {
  size_t bytes;
  MemoryKind kind;
};

// Both are used under the runtime's lock.
std::map<char*, Allocation>& allocations() {
  static std::map<char*, Allocation> map;
  return map;
}
int fail_countdown = 0;

cudaError_t allocate(void** pointer, size_t bytes, MemoryKind kind) {
  const auto lock = lock_runtime();
  if (pointer == nullptr) return report(cudaErrorInvalidValue);
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (fail_countdown > 0 && --fail_countdown == 0) return report(cudaErrorMemoryAllocation);
  constexpr size_t kAlignment = 256;  // what cudaMalloc guarantees
  if (bytes > SIZE_MAX - kAlignment) return report(cudaErrorMemoryAllocation);
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return report(cudaErrorMemoryAllocation);
  std::memset(memory, 0xff, bytes);  // every float a NaN
  allocations()[static_cast<char*>(memory)] = {bytes, kind};
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t release(void* pointer, MemoryKind kind) {
  const auto lock = lock_runtime();
  if (pointer == nullptr) return cudaSuccess;
  const auto found = allocations().find(static_cast<char*>(pointer));
  if (found == allocations().end() || found->second.kind != kind)
    return report(cudaErrorInvalidValue);
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  const cudaError_t error = run_all();  // cudaFree waits for work that may still use the memory
  allocations().erase(found);
  std::free(pointer);
  return report(error);
}

// The allocation that holds all of [pointer, pointer+bytes), or null.
const Allocation* find(const void* pointer, size_t bytes) {
  char* begin = static_cast<char*>(const_cast<void*>(pointer));
  auto next = allocations().upper_bound(begin);
  if (next == allocations().begin()) return nullptr;
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
  }
  return cudaErrorInvalidMemcpyDirection;
}

}  // namespace

std::vector<std::span<char>> device_memory() {
  std::vector<std::span<char>> all;
  for (const auto& [base, allocation] : allocations())
    if (allocation.kind == MemoryKind::kDevice) all.emplace_back(base, allocation.bytes);
  return all;
}

void fail_allocation(int nth) {
  const auto lock = lock_runtime();
  fail_countdown = nth;
}

int live_allocations() {
  const auto lock = lock_runtime();
  return int(allocations().size());
}

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
  const auto lock = lock_runtime();
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t error = check_copy(to, from, bytes, kind); error != cudaSuccess)
    return report(error);
  if (const cudaError_t error = run_all(); error != cudaSuccess) return report(error);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const auto lock = lock_runtime();
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t error = check_copy(to, from, bytes, kind); error != cudaSuccess)
    return report(error);
  const auto queue = queue_of(stream);
  const bool pageable = kind == cudaMemcpyHostToDevice && find(from, bytes) == nullptr;
  if (pageable && !queue->capture) {
    // The GPU's driver copies pageable memory into a staging buffer before it returns.
    enqueue(*queue, [to, staged = std::vector<char>(static_cast<const char*>(from),
                                                    static_cast<const char*>(from) + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
    return cudaSuccess;
  }
  enqueue(*queue, [to, from, bytes] { std::memcpy(to, from, bytes); });
  if (kind == cudaMemcpyDeviceToHost && find(to, bytes) == nullptr && !queue->capture)
    return report(run_until(*queue, queue->enqueued));
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const auto lock = lock_runtime();
  if (capturing()) return report(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (!on_device(to, bytes)) return report(cudaErrorInvalidValue);
  if (const cudaError_t error = run_all(); error != cudaSuccess) return report(error);
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const auto lock = lock_runtime();
  if (bytes == 0) return cudaSuccess;
  if (!on_device(to, bytes)) return report(cudaErrorInvalidValue);
  enqueue(*queue_of(stream), [to, value, bytes] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

}  // namespace simt
