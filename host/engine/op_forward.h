// The forward pass layer by layer, on a backend's operations.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/forward_pass.h"
#include "host/engine/network.h"
#include "host/engine/training_state.h"

namespace mnist::MNIST_TARGET {

class OpForward final : public ForwardPass {
 public:
  // For up to `max_batch` images. Everything referred to outlives the pass.
  OpForward(Backend& backend, const Model& model, const TrainingState& state, int max_batch);

  void load_weights(cudaStream_t) override {}  // the operations read them where they are
  const float* logits(const uint8_t* images, int n, cudaStream_t compute) override;

 private:
  const Model& model_;
  const TrainingState& state_;
  Network network_;
  const DeviceBuffer<float> input_;  // [max_batch,pixels]
};

}  // namespace mnist::MNIST_TARGET
