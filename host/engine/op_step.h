// A training step layer by layer, on a backend's operations.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/network.h"
#include "host/engine/step.h"
#include "host/engine/training_state.h"

namespace mnist::MNIST_TARGET {

class OpStep final : public Step {
 public:
  // Everything referred to outlives the step.
  OpStep(Backend& backend, const Model& model, const EngineConfig& config, TrainingState& state);

  void begin_epoch(int64_t batch, const TrainingRows& rows, cudaStream_t compute) override;
  void enqueue(int64_t batch, const TrainingRows& rows, cudaStream_t compute) override;

 private:
  struct Slot {
    DeviceBuffer<float> images;  // [batch,pixels]
    DeviceBuffer<uint8_t> labels;
  };

  void gather(const Slot& slot, const TrainingRows& rows, int ahead, cudaStream_t stream);

  const Model& model_;
  const int batch_size_;
  TrainingState& state_;
  Network network_;
  Slot slots_[2];
  const DeviceBuffer<float> loss_workspace_;
  Stream data_{Priority::kLow};
  Event started_, gathered_;
};

}  // namespace mnist::MNIST_TARGET
