// Reads the state of a training back while the training goes on.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <vector>

#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/engine.h"
#include "host/engine/training_state.h"

namespace mnist::MNIST_TARGET {

class SavedStates {
 public:
  explicit SavedStates(size_t arena_size);
  ~SavedStates();

  // The state after the work that is in `compute` now: a copy on the device, which compute waits
  // for, then one into pinned memory beside what comes after it. It must be gone before this object
  // is; its memory then serves another one.
  std::unique_ptr<SavedState> begin(const TrainingState& state, cudaStream_t compute);

 private:
  class Place;
  class Lease;
  Place& free_place();

  const size_t arena_size_;
  const int device_;
  const DeviceBuffer<float> arenas_;  // [3, arena_size]: weights, m, v
  const DeviceBuffer<StepState> step_;
  Stream copy_{Priority::kLow};
  Event taken_;  // compute has filled the two buffers above
  Event read_;   // copy_ has read them
  std::vector<std::unique_ptr<Place>> places_;
};

}  // namespace mnist::MNIST_TARGET
