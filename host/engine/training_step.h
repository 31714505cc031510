// One training step: gather a batch, forward, loss, backward, Adam.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "host/engine/backends/backend.h"
#include "host/engine/batch_source.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/network.h"
#include "host/engine/training_state.h"

namespace mnist::MNIST_TARGET {

class TrainingStep {
 public:
  // Everything referred to outlives the step.
  TrainingStep(Backend& backend, const Model& model, const EngineConfig& config,
               TrainingState& state, cudaStream_t compute);

  // From where the next steps take their batches.
  void set_source(const BatchRows& rows);

  // Records the step as a graph, unless that is done or config.eager; nothing runs.
  void prepare(cudaStream_t compute);
  // After prepare(). Whatever differs from step to step is in the state's StepState.
  void run(cudaStream_t compute);

  // Nodes of the graph; 0 before prepare(), and if eager.
  size_t nodes() const { return graph_.nodes(); }

 private:
  void enqueue(cudaStream_t compute);

  const Model& model_;
  const EngineConfig& config_;
  TrainingState& state_;
  Network network_;
  const DeviceBuffer<uint8_t> labels_;  // of the batch
  const DeviceBuffer<float> loss_workspace_;
  BatchRows rows_{};
  Graph graph_;
};

}  // namespace mnist::MNIST_TARGET
