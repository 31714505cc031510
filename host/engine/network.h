// The layers of a model over device buffers, forward and backward.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/model/model.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

class Network {
 public:
  // Buffers for up to `max_batch` samples. The backend and the model outlive the network.
  Network(Backend& backend, const Model& model, int max_batch, Mode mode, uint64_t seed);

  // Logits [n,classes] of x [n,pixels].
  const float* forward(const float* x, const Pass& pass);

  // [n,classes], filled by the caller before backward().
  float* dlogits() const { return gradient_.back().data(); }

  // Gradients of all parameters, from dlogits() and what the last forward() of the same x and n
  // left. The parameters' gradients are computed on a stream of their own, beside those of the
  // activations, which the rest of the pass waits for.
  void backward(float* gradients, const float* x, const Pass& pass);

 private:
  std::vector<std::unique_ptr<LayerOp>> ops_;
  size_t first_with_parameters_ = 0;
  std::vector<DeviceBuffer<float>> storage_;   // what output_ points into
  std::vector<float*> output_;                 // of each op; at inference two buffers by turns
  std::vector<DeviceBuffer<float>> gradient_;  // by the output of each op, when training
  Stream filters_{Priority::kLow};
  Event forked_, joined_;
};

}  // namespace mnist::MNIST_TARGET
