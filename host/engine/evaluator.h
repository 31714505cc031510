// The network without training: loss and accuracy over a data set, probabilities of images.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/mirrored.h"
#include "host/engine/device/stream.h"
#include "host/engine/engine.h"
#include "host/engine/network.h"

namespace mnist::MNIST_TARGET {

class Evaluator {
 public:
  // The backend and the model outlive the evaluator.
  // `eager`: launches each kernel, not a graph of all of evaluate().
  Evaluator(Backend& backend, const Model& model, bool eager);

  // Uploads the samples.
  void set_samples(const Samples& samples, cudaStream_t compute);

  // Both wait for their result. `weights`: the arena, on the device; the same one in all calls.
  Metrics evaluate(const float* weights, cudaStream_t compute);
  // Probabilities [count,classes] of images [count,pixels] in host memory.
  std::vector<float> predict(const float* weights, const uint8_t* images, int64_t count,
                             cudaStream_t compute);

 private:
  void enqueue(const float* weights, cudaStream_t compute);
  // Logits of n images [n,pixels] in device memory.
  const float* logits(const float* weights, const uint8_t* images, int n, cudaStream_t compute);

  Backend& backend_;
  const Model& model_;
  const bool eager_;
  const int64_t pixels_;
  Network network_;
  const DeviceBuffer<float> input_;
  const DeviceBuffer<float> loss_workspace_;
  Mirrored<MetricSums> sums_;
  int64_t count_ = 0;
  DeviceBuffer<uint8_t> images_, labels_;
  bool has_run_ = false;  // on these samples
  Graph graph_;           // of enqueue()
};

}  // namespace mnist::MNIST_TARGET
