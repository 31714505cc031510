// Device memory for the fused kernels of kernels/fused.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/engine.h"
#include "host/engine/training_state.h"
#include "host/model/model.h"
#include "kernels/fused/fused.h"

namespace mnist::MNIST_TARGET {

// The network that they compute, on 28x28x1 images.
inline constexpr const char* kFusedArch =
    "conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128,dense:10";
bool is_fused_network(const Model& model);

// Whether they are what a run in this configuration computes with: the native backend's FP16.
inline bool uses_fused_kernels(const EngineConfig& config) {
  return config.backend == BackendKind::kNative && config.math == Math::kFp16;
}

class FusedBuffers {
 public:
  // For up to `batch` samples; all zero, which the rows beyond a training batch stay. Mode
  // kInference: for the forward pass of evaluation alone. `stream` is the one that uses them, and
  // the state outlives them.
  FusedBuffers(const Model& model, const TrainingState& state, MetricSums* metrics, int batch,
               Mode mode, cudaStream_t stream);

  const FusedMemory& memory() const { return memory_; }
  FusedBatch add_batch();  // room for one more

 private:
  template <typename T>
  T* zeros(size_t count);

  const size_t rows_;
  const cudaStream_t stream_;
  std::vector<DeviceBuffer<std::byte>> buffers_;
  FusedMemory memory_{};
};

}  // namespace mnist::MNIST_TARGET
