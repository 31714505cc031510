// The forward pass of the default network in three kernels, in FP16.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/device/device_buffer.h"
#include "host/engine/forward_pass.h"
#include "host/engine/fused_buffers.h"
#include "host/engine/training_state.h"
#include "host/model/model.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

class FusedForward final : public ForwardPass {
 public:
  // For up to `max_batch` images of a model that is_fused_network(). `metrics` counts what
  // saturates. Everything referred to outlives the pass; it is for this stream.
  FusedForward(const Model& model, const TrainingState& state, MetricSums* metrics, int max_batch,
               cudaStream_t compute);

  void load_weights(cudaStream_t compute) override;
  const float* logits(const uint8_t* images, int n, cudaStream_t compute) override;

 private:
  const FusedBuffers buffers_;
  const DeviceBuffer<float> logits_;  // [max_batch,classes]
};

}  // namespace mnist::MNIST_TARGET
