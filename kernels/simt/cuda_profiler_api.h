// Stands in for NVIDIA's <cuda_profiler_api.h> on the cpu target. There is no profiler to switch;
// tests ask for which launches it would have been on.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace simt {

int64_t launches_run();  // kernel launches, replayed ones too, that have run so far

inline int64_t profiled_from = -1;  // launches_run() at the last cudaProfilerStart(), -1: never
inline int64_t profiled_to = -1;    // ... at the last cudaProfilerStop()
inline int profiler_switches = 0;   // calls of either

inline cudaError_t cudaProfilerStart() {
  ++profiler_switches;
  profiled_from = launches_run();
  return cudaSuccess;
}
inline cudaError_t cudaProfilerStop() {
  ++profiler_switches;
  profiled_to = launches_run();
  return cudaSuccess;
}

}  // namespace simt
