// One training step: forward, loss, backward, Adam; and beside them, the next batch is gathered.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "host/engine/training_set.h"

namespace mnist::MNIST_TARGET {

// Batch b of an epoch is kept in slot b % 2: a recorded step serves all batches of one parity.
class Step {
 public:
  virtual ~Step() = default;

  // Gathers batch number `batch` of an epoch, the next to be trained on by the state. Each step
  // gathers the one after its own.
  virtual void begin_epoch(int64_t batch, const TrainingRows& rows, cudaStream_t compute) = 0;
  // Puts the step of that batch into the stream; may be captured into a graph.
  virtual void enqueue(int64_t batch, const TrainingRows& rows, cudaStream_t compute) = 0;
};

}  // namespace mnist::MNIST_TARGET
