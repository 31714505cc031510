// Kernel launches: their limits, which are CUDA's, and the kernels' names.

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "kernels/simt/early.h"
#include "kernels/simt/runtime.h"
#include "kernels/simt/scheduler.h"

namespace simt {

namespace {

// Dynamic shared memory that a kernel has opted into, above 48 KB. Used under the runtime's lock.
std::map<const void*, size_t>& dynamic_limits() {
  static std::map<const void*, size_t> map;
  return map;
}

}  // namespace

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const auto lock = lock_runtime();
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
    return value < -1 || value > 100 ? report(cudaErrorInvalidValue) : cudaSuccess;
  if (value < 0 || size_t(value) > kMaxDynamicBytes) return report(cudaErrorInvalidValue);
  dynamic_limits()[function] = size_t(value);
  return cudaSuccess;
}

std::string kernel_name(const void* function) {
  Dl_info info = {};
  if (dladdr(function, &info) == 0 || info.dli_sname == nullptr) return "?";
  int status = 0;
  char* demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  const std::string name = status == 0 ? demangled : info.dli_sname;
  std::free(demangled);
  return name.substr(0, name.find('('));
}

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  const auto lock = lock_runtime();
  static std::map<const void*, std::string> names;  // what *name points to
  const auto [entry, is_new] = names.try_emplace(function);
  if (is_new) entry->second = kernel_name(function);
  *name = entry->second.c_str();
  return cudaSuccess;
}

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* function,
                           std::function<void()> thread) {
  const auto lock = lock_runtime("cudaLaunchKernelEx");
  constexpr size_t kPlainDynamicBytes = 48 * 1024;
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || threads == 0 || threads > 1024 || block.z > 64)
    return report(cudaErrorInvalidConfiguration);
  if (config.dynamicSmemBytes > kPlainDynamicBytes) {
    const auto limit = dynamic_limits().find(function);
    if (limit == dynamic_limits().end() || config.dynamicSmemBytes > limit->second)
      return report(cudaErrorInvalidValue);
  }
  bool dependent = false;
  for (unsigned i = 0; i < config.numAttrs; ++i)
    dependent |= config.attrs[i].val.programmaticStreamSerializationAllowed != 0;
  runtime().dependent_launches += dependent;
  const auto queue = queue_of(config.stream);
  // What has run already when a kernel is enqueued, the kernel sees.
  const bool overlaps = queue->capture || queue->done < queue->enqueued;
  const auto before = overlaps && queue->changed ? queue->changed : std::make_shared<Places>();
  const auto changed = std::make_shared<Places>();
  enqueue(*queue, [launch = Launch{function, grid, block, config.dynamicSmemBytes, dependent,
                                   std::move(thread)},
                   before, changed] { run_kernel(launch, *before, *changed); });
  queue->changed = changed;
  return cudaSuccess;
}

}  // namespace simt
