// What training changes, on the device: the arenas, Adam's counter, the epoch's metrics.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/device/device_buffer.h"
#include "host/engine/device/mirrored.h"
#include "host/engine/engine.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

inline constexpr AdamParams kAdam{};

// All calls put their work into `stream`; those that set the step's state wait for it.
class TrainingState {
 public:
  // The arenas are zero. The model outlives the state.
  TrainingState(const Model& model, float learning_rate, cudaStream_t stream);

  // Engine::initialize() and load().
  void initialize(uint64_t seed, float learning_rate, cudaStream_t stream);
  void load(const OptimizerState& state, cudaStream_t stream);

  // Names the first batch of an epoch of `samples` samples as the next to be trained on; `first`
  // batches of the epoch are done already, and `sums` are theirs.
  void begin_epoch(int64_t samples, int64_t first, const Metrics& sums, cudaStream_t stream);

  const DeviceBuffer<float> weights, gradients, m, v;  // Model::arena_size floats each
  Mirrored<StepState> step;
  Mirrored<MetricSums> metrics;
  const PinnedBuffer<MetricSums> reports;  // [kReports], which kernels write

 private:
  void set_step(int64_t iteration, float learning_rate, cudaStream_t stream);

  const Model& model_;
};

}  // namespace mnist::MNIST_TARGET
