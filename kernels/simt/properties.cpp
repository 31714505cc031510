// The device: the processor. Tests may ask for several, which are all the same one.

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

int device_count = 1;  // under the lock
thread_local int current_device = 0;

// What the calls that name a device return.
cudaError_t check_device(int device, const char* caller = __builtin_FUNCTION()) {
  const auto lock = lock_runtime(caller);
  return device >= 0 && device < device_count ? cudaSuccess : report(cudaErrorInvalidDevice);
}

}  // namespace

void set_device_count(int count) {
  const auto lock = lock_runtime();
  device_count = count;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const auto lock = lock_runtime();
  *count = device_count;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const cudaError_t error = check_device(device);
  if (error == cudaSuccess) current_device = device;
  return error;
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

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device) {
  *value = 9;
  return check_device(device);
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
