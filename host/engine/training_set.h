// The training images where the steps read them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "host/data/image_set.h"
#include "host/engine/device/device_buffer.h"

namespace mnist::MNIST_TARGET {

// What batches are gathered from. The addresses stay the same as long as the training set
// lives, so that a graph may hold them.
struct TrainingRows {
  const uint8_t* images;  // [count,pixels]
  const uint8_t* labels;  // [count]
  const int32_t* order;   // [count], of the current epoch
  int count;
};

// A copy of the samples: in pinned memory, from which kernels read over the bus while earlier
// batches are trained on, or in the device's own.
class TrainingSet {
 public:
  TrainingSet(const Samples& samples, int pixels, bool resident, cudaStream_t compute);

  TrainingRows rows() const;
  // A permutation of the samples, for the epoch that comes. Nothing that reads the order before may
  // still be running.
  void set_order(std::span<const int32_t> order);

 private:
  // Either those or these.
  PinnedBuffer<uint8_t> pinned_images_, pinned_labels_;
  DeviceBuffer<uint8_t> images_, labels_;
  PinnedBuffer<int32_t> order_;
};

}  // namespace mnist::MNIST_TARGET
