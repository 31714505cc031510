// Owners of device and pinned host memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "kernels/check.h"

namespace mnist::MNIST_TARGET {

enum class Memory { kDevice, kPinned };

// `size` elements, not initialised. Move-only; throws OutOfMemory when there is none.
template <typename T, Memory kind>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size) : size_(size) {
    if (size == 0) return;
    if constexpr (kind == Memory::kDevice)
      CUDA_CHECK(cudaMalloc(&data_, size * sizeof(T)));
    else
      CUDA_CHECK(cudaMallocHost(&data_, size * sizeof(T)));
  }
  ~Buffer() {
    // Errors here are those of an earlier fault, which has been reported.
    if constexpr (kind == Memory::kDevice)
      cudaFree(data_);
    else
      cudaFreeHost(data_);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) const requires(kind == Memory::kPinned) { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

template <typename T>
using DeviceBuffer = Buffer<T, Memory::kDevice>;
template <typename T>
using PinnedBuffer = Buffer<T, Memory::kPinned>;

}  // namespace mnist::MNIST_TARGET
