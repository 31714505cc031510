// The one place that launches kernels: launch(kernel, grid, block, stream, args...) and its kin.
#pragma once

#include <cuda_runtime.h>

#include <map>
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

// Whether kernels of the current device can start before their predecessor has ended: from sm_90
// on. Each device is asked once.
inline bool starts_early() {
  static std::mutex mutex;
  static std::map<int, bool> answers;
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  if (const auto known = answers.find(device); known != answers.end()) return known->second;
  int major = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return answers[device] = major >= 9;
}

// The launch itself, with an attribute or none (null).
template <typename... Parameters, typename... Arguments>
void launch_with_attribute(cudaLaunchAttribute* attribute, void (*kernel)(Parameters...), dim3 grid,
                           dim3 block, size_t shared_bytes, cudaStream_t stream,
                           Arguments&&... args) {
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
  config.attrs = attribute;
  config.numAttrs = attribute != nullptr ? 1 : 0;
  const cudaError_t code = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...);
  if (code != cudaSuccess) {
    const char* name = nullptr;
    if (cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)) != cudaSuccess) name = "?";
    throw CudaError(code, std::string("launch of ") + name + ": " + cudaGetErrorName(code) + ": " +
                              cudaGetErrorString(code));
  }
}

// kernel<<<grid, block, shared_bytes, stream>>>(args...), checked. Arguments convert to the
// kernel's parameter types. Dynamic shared memory above 48 KB is opted into here.
template <typename... Parameters, typename... Arguments>
void launch_with_shared(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                        cudaStream_t stream, Arguments&&... args) {
  launch_with_attribute(nullptr, kernel, grid, block, shared_bytes, stream, args...);
}

// The same for a kernel that calls griddepcontrol_wait() (ptx.cuh): where the device can, it starts
// as soon as every block of the kernel before it in the stream has ended or called
// griddepcontrol_launch_dependents().
template <typename... Parameters, typename... Arguments>
void launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                      cudaStream_t stream, Arguments&&... args) {
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  launch_with_attribute(starts_early() ? &early : nullptr, kernel, grid, block, shared_bytes,
                        stream, args...);
}

// launch_with_shared() for a kernel without dynamic shared memory.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
            Arguments&&... args) {
  launch_with_shared(kernel, grid, block, 0, stream, args...);
}

}  // namespace mnist::MNIST_TARGET
