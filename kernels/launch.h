// The one place that launches kernels: launch(kernel, grid, block, stream, args...).
#pragma once

#include <cuda_runtime.h>

#include <mutex>
#include <set>

#include "kernels/check.h"

namespace mnist::MNIST_TARGET {

// A multiprocessor changes how it divides its memory between cache and shared memory only when it
// is idle. All kernels ask for the same half, so that any two can run side by side and none waits
// for the one before to leave. Once for each kernel; harmless while a graph is recorded.
inline void share_carveout(const void* kernel) {
  static std::mutex mutex;
  static std::set<const void*> done;
  const std::lock_guard lock(mutex);
  if (!done.insert(kernel).second) return;
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 50));
}

// kernel<<<grid, block, shared_bytes, stream>>>(args...), checked. Arguments convert to the
// kernel's parameter types. Dynamic shared memory above 48 KB is opted into here.
template <typename... Parameters, typename... Arguments>
void launch_with_shared(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                        cudaStream_t stream, Arguments&&... args) {
  share_carveout(reinterpret_cast<const void*>(kernel));
  if (shared_bytes > 48 * 1024)
    CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  const cudaError_t code = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...);
  if (code != cudaSuccess) {
    const char* name = nullptr;
    if (cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)) != cudaSuccess) name = "?";
    throw CudaError(code, std::string("launch of ") + name + ": " + cudaGetErrorName(code) + ": " +
                              cudaGetErrorString(code));
  }
}

// The same for a kernel without dynamic shared memory.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
            Arguments&&... args) {
  launch_with_shared(kernel, grid, block, 0, stream, args...);
}

}  // namespace mnist::MNIST_TARGET
