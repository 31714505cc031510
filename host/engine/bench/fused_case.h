// A batch for the fused kernels, and all else that they read.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/fused_buffers.h"
#include "host/engine/training_state.h"
#include "host/model/model.h"
#include "kernels/fused/fused.h"

namespace mnist::MNIST_TARGET {

// Every buffer holds values like those of training, so that each kernel can be launched alone and
// again and again: the learning rate is zero, and the epoch has no end.
class FusedCase {
 public:
  FusedCase(int images, Mode mode);

  const FusedMemory& memory() const { return buffers_.memory(); }
  const FusedBatch& batch() const { return batch_; }
  const FusedBatch& next() const { return next_; }
  FusedSource source() const {
    return {.images = images_.data(), .labels = labels_.data(), .permutation = order_.data()};
  }
  float* logits() const { return logits_.data(); }

 private:
  void fill();

  const int count_;
  const Model model_;
  Stream stream_;
  TrainingState state_;
  FusedBuffers buffers_;
  const FusedBatch batch_, next_;
  const DeviceBuffer<uint8_t> images_, labels_;  // of two batches
  const DeviceBuffer<int32_t> order_;
  const DeviceBuffer<float> logits_;
};

}  // namespace mnist::MNIST_TARGET
