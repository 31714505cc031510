#include "host/engine/bench/device_peak.h"

#include <cuda_runtime.h>

#include "kernels/check.h"

namespace mnist::MNIST_TARGET {

#ifdef MNIST_SIMT

DevicePeak device_peak() {
  return {};
}
size_t cache_bytes() {
  return size_t{32} << 20;
}

#else

namespace {

// Multiply-adds per clock and multiprocessor (CUDA C++ Programming Guide, "Arithmetic
// Instructions").
int fp32_lanes(int major, int minor) {
  switch (major) {
    case 7:
      return 64;
    case 8:
      return minor == 0 ? 64 : 128;
    case 9:
    case 10:
    case 11:
    case 12:
      return 128;
    default:
      return 0;
  }
}

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

}  // namespace

DevicePeak device_peak() {
  const int lanes = fp32_lanes(attribute(cudaDevAttrComputeCapabilityMajor),
                               attribute(cudaDevAttrComputeCapabilityMinor));
  const double clock = 1e3 * attribute(cudaDevAttrClockRate);
  const double memory_clock = 1e3 * attribute(cudaDevAttrMemoryClockRate);
  // Two transfers per clock, eight bits to the byte.
  return {.flops = 2.0 * lanes * attribute(cudaDevAttrMultiProcessorCount) * clock,
          .bytes = 2.0 * memory_clock * attribute(cudaDevAttrGlobalMemoryBusWidth) / 8};
}

size_t cache_bytes() {
  return size_t(attribute(cudaDevAttrL2CacheSize));
}

#endif

}  // namespace mnist::MNIST_TARGET
