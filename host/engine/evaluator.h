// The network without training: loss and accuracy over a data set, probabilities of images.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/mirrored.h"
#include "host/engine/device/stream.h"
#include "host/engine/engine.h"
#include "host/engine/forward_pass.h"
#include "host/engine/training_state.h"

namespace mnist::MNIST_TARGET {

class Evaluator {
 public:
  // Everything referred to outlives the evaluator. Of the configuration: `backend` and `math`, and
  // `eager`: launches each kernel, not a graph of all of evaluate().
  Evaluator(Backend& backend, const Model& model, const EngineConfig& config,
            const TrainingState& state, cudaStream_t compute);

  // Uploads the samples.
  void set_samples(const Samples& samples, cudaStream_t compute);

  // Both wait for their result, which is that of the state's weights as they are now.
  Metrics evaluate(cudaStream_t compute);
  // Probabilities [count,classes] of images [count,pixels] in host memory.
  std::vector<float> predict(const uint8_t* images, int64_t count, cudaStream_t compute);

 private:
  void enqueue(cudaStream_t compute);

  Backend& backend_;
  const Model& model_;
  const bool eager_;
  const int64_t pixels_;
  Mirrored<MetricSums> sums_;
  const std::unique_ptr<ForwardPass> pass_;
  const DeviceBuffer<float> loss_workspace_;
  int64_t count_ = 0;
  DeviceBuffer<uint8_t> images_, labels_;
  bool has_run_ = false;  // on these samples
  Graph graph_;           // of enqueue()
};

}  // namespace mnist::MNIST_TARGET
