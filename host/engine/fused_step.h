// A training step of the default network in five kernels, in FP16.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/fused_buffers.h"
#include "host/engine/step.h"
#include "host/engine/training_state.h"
#include "host/model/model.h"
#include "kernels/fused/fused.h"

namespace mnist::MNIST_TARGET {

class FusedStep final : public Step {
 public:
  // Of a model that is_fused_network(), at most kFusedBatch samples. The state outlives the step,
  // which is for this stream.
  FusedStep(const Model& model, int batch_size, const TrainingState& state, cudaStream_t compute);

  void begin_epoch(int64_t batch, const TrainingRows& rows, cudaStream_t compute) override;
  void enqueue(int64_t batch, const TrainingRows& rows, cudaStream_t compute) override;

 private:
  const int batch_size_;
  FusedBuffers buffers_;
  const FusedBatch slots_[2];
};

}  // namespace mnist::MNIST_TARGET
