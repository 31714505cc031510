// One struct on the device and its mirror in pinned memory.
#pragma once

#include <cuda_runtime.h>

#include "host/engine/device/device_buffer.h"

namespace mnist::MNIST_TARGET {

template <typename T>
class Mirrored {
 public:
  T& host() { return host_[0]; }
  T* device() const { return device_.data(); }
  void upload(cudaStream_t stream) {
    CUDA_CHECK(
        cudaMemcpyAsync(device_.data(), host_.data(), sizeof(T), cudaMemcpyHostToDevice, stream));
  }
  // All bits of the one on the device become zero.
  void clear(cudaStream_t stream) {
    CUDA_CHECK(cudaMemsetAsync(device_.data(), 0, sizeof(T), stream));
  }
  void download(cudaStream_t stream) {
    CUDA_CHECK(
        cudaMemcpyAsync(host_.data(), device_.data(), sizeof(T), cudaMemcpyDeviceToHost, stream));
  }

 private:
  PinnedBuffer<T> host_{1};
  DeviceBuffer<T> device_{1};
};

}  // namespace mnist::MNIST_TARGET
