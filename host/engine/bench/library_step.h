// The training step of the default network on a backend of single operations, in the parts that
// the fused kernels replace.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/training_state.h"
#include "host/model/model.h"

namespace mnist::MNIST_TARGET {

// Each part puts its operations into one stream, one after the other. In the order of a step the
// first time; later each may be repeated alone. The learning rate is zero, and the epoch has no
// end.
class LibraryStep {
 public:
  // Images of random bytes. The backend outlives this.
  LibraryStep(Backend& backend, int batch);

  void conv_forward(cudaStream_t stream);    // convolutions, ReLU, pooling
  void dense_forward(cudaStream_t stream);   // the first dense layer
  void head(cudaStream_t stream);            // the second, loss, both backward, Adam of the large
                                             // filter
  void conv_backward(cudaStream_t stream);   // pooling and convolutions
  void update_filters(cudaStream_t stream);  // Adam of the other parameters

  const TrainingState& state() const { return state_; }   // with the gradients
  const float* images() const { return images_.data(); }  // [batch,784]
  const float* dlogits() const { return gradient_.back().data(); }

 private:
  void forward(size_t begin, size_t end, cudaStream_t stream);  // of ops [begin,end)
  void backward(size_t begin, size_t end, cudaStream_t stream);
  void update(size_t begin, size_t size, cudaStream_t stream);  // floats of the arenas
  Pass pass(cudaStream_t stream) { return {state_.weights.data(), nullptr, batch_, stream}; }

  const int batch_;
  const Model model_;
  Stream stream_;
  TrainingState state_;
  const std::vector<std::unique_ptr<LayerOp>> ops_;
  const size_t dense_;                                  // the first dense layer's op
  std::vector<DeviceBuffer<float>> output_, gradient_;  // of each op; gradient by it
  const DeviceBuffer<float> images_, loss_workspace_;
  const DeviceBuffer<uint8_t> labels_;
};

}  // namespace mnist::MNIST_TARGET
