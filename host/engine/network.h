// The layers of a model as launches over device buffers.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "host/engine/device_buffer.h"
#include "host/model.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

// Training keeps every activation for the way back; inference needs two at a time, and no dropout.
enum class Mode { kTraining, kInference };

class Network {
 public:
  // Buffers for up to `max_batch` samples. The model and the arenas outlive the network.
  Network(const Model& model, int max_batch, Mode mode, uint64_t seed);

  // [max_batch,pixels], filled by the caller before forward().
  float* input() const { return input_.data(); }

  // Logits [n,classes] of the first n rows of input(). `state` is read by dropout alone.
  const float* forward(const float* weights, const StepState* state, int n, cudaStream_t stream);

  // [n,classes], filled by the caller before backward().
  float* dlogits() const { return gradient_[0].data(); }

  // Gradients of all parameters, from dlogits() and what the last forward() of the same n left.
  void backward(float* gradients, const float* weights, const StepState* state, int n,
                cudaStream_t stream);

  int max_batch() const { return max_batch_; }

 private:
  const Model& model_;
  const int max_batch_;
  const Mode mode_;
  const uint64_t seed_;

  DeviceBuffer<float> input_;
  std::vector<DeviceBuffer<float>> storage_;  // what output_ points into
  std::vector<float*> output_;  // of each layer; a layer that changes nothing has its input's
  std::vector<DeviceBuffer<uint8_t>> argmax_;  // of each pooling layer, when training
  DeviceBuffer<float> gradient_[2];            // by the output of layer i, in turns
  DeviceBuffer<float> workspace_;
};

}  // namespace mnist::MNIST_TARGET
