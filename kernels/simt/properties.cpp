// The one device: the processor.

#include <sys/sysinfo.h>

#include <cstring>
#include <fstream>
#include <string>

#include "kernels/simt/control.h"
#include "kernels/simt/runtime.h"
#include "kernels/simt/scheduler.h"

namespace simt {

namespace {

std::string processor_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "processor";
}

// What the calls that name a device return: there is only device 0.
cudaError_t check_device(int device) {
  if (device == 0) return cudaSuccess;
  const auto lock = lock_runtime();
  return report(cudaErrorInvalidDevice);
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return check_device(device);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = check_device(device); error != cudaSuccess) return error;
  *properties = {};
  std::strncpy(properties->name, processor_name().c_str(), sizeof properties->name - 1);
  struct sysinfo info = {};
  if (sysinfo(&info) == 0) properties->totalGlobalMem = size_t(info.totalram) * info.mem_unit;
  properties->multiProcessorCount = os_threads();
  properties->sharedMemPerBlockOptin = kMaxDynamicBytes;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

}  // namespace simt
