// Stands in for NVIDIA's <cuda_profiler_api.h> on the cpu target: there is no profiler to switch.
#pragma once

#include <cuda_runtime.h>

namespace simt {

inline cudaError_t cudaProfilerStart() {
  return cudaSuccess;
}
inline cudaError_t cudaProfilerStop() {
  return cudaSuccess;
}

}  // namespace simt
