// Buffers for the launches that are timed.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include "host/engine/device/device_buffer.h"

namespace mnist::MNIST_TARGET {

// One set of buffers for a launcher, filled with values like those of training. Each member
// allocates `size` elements that live as long as this object, and counts the bytes that a launch
// must move for them.
class Operands {
 public:
  explicit Operands(unsigned seed) : random_(seed) {}

  const float* normal(size_t size);                    // weights, inputs: standard normal
  const float* relu(size_t size);                      // activations: half of them zero
  const float* gradient(size_t size, double density);  // normal; so many are not zero
  const uint8_t* codes(size_t size, int limit);        // bytes below `limit`
  const int32_t* permutation(int size);
  float* output(size_t size);
  uint8_t* output_codes(size_t size);
  float* updated(size_t size);  // read and written; positive, as Adam's v must be
  float* scratch(size_t size);  // what it moves does not count; null if 0
  template <typename T>
  T* value(const T& value);  // one struct; does not count

  void moves(double bytes) { bytes_ += bytes; }  // of memory that the launch has elsewhere

  double bytes() const { return bytes_; }

 private:
  template <typename T, typename Generate>
  T* fill(size_t size, Generate&& generate);
  template <typename Map>
  float* normals(size_t size, Map&& map);
  void* allocate(const void* values, size_t bytes);

  std::minstd_rand random_;
  std::vector<DeviceBuffer<std::byte>> buffers_;
  double bytes_ = 0;
};

template <typename T>
T* Operands::value(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return static_cast<T*>(allocate(&value, sizeof value));
}

}  // namespace mnist::MNIST_TARGET
