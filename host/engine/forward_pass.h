// From images to logits, without training.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mnist::MNIST_TARGET {

// Both calls are asynchronous and may be captured into a graph.
class ForwardPass {
 public:
  virtual ~ForwardPass() = default;

  // Before the first logits() that is to see changed weights.
  virtual void load_weights(cudaStream_t compute) = 0;
  // Logits [n,classes] of images [n,pixels], both in device memory.
  virtual const float* logits(const uint8_t* images, int n, cudaStream_t compute) = 0;
};

}  // namespace mnist::MNIST_TARGET
