// One training step: forward, loss, backward, Adam; and beside them, the next batch is gathered.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/network.h"
#include "host/engine/training_set.h"
#include "host/engine/training_state.h"

namespace mnist::MNIST_TARGET {

// Batches of an epoch that one launch trains on: those of a report.
inline constexpr int kRoundBatches = kReportBatches;

class TrainingStep {
 public:
  // Everything referred to outlives the step.
  TrainingStep(Backend& backend, const Model& model, const EngineConfig& config,
               TrainingState& state);

  // From where the next steps take their batches.
  void set_rows(const TrainingRows& rows);

  // Gathers batch number `batch` of an epoch, the next to be trained on by the state. Each step
  // gathers the one after its own.
  void begin_epoch(int64_t batch, cudaStream_t compute);
  // Trains on batches [begin,end) of the epoch, all of one round; a whole round is one launch.
  // `number` is that of the first among the steps of the run, for profilers.
  void run(int64_t begin, int64_t end, int64_t number, cudaStream_t compute);

  // Nodes of the graph of one step; 0 as long as there is none.
  size_t nodes() const { return single_[0] ? single_[0].nodes() : single_[1].nodes(); }

 private:
  // Where batch b of an epoch is: in slot b % 2.
  struct Slot {
    DeviceBuffer<float> images;  // [batch,pixels]
    DeviceBuffer<uint8_t> labels;
  };

  void gather(const Slot& slot, int ahead, cudaStream_t stream);
  void enqueue(int64_t batch, cudaStream_t compute);
  void launch(Graph& graph, int64_t begin, int64_t end, cudaStream_t compute);

  const Model& model_;
  const EngineConfig& config_;
  TrainingState& state_;
  Network network_;
  Slot slots_[2];
  const DeviceBuffer<float> loss_workspace_;
  TrainingRows rows_{};
  Stream data_{Priority::kLow};
  Event started_, gathered_;
  bool has_run_ = false;
  Graph single_[2];  // of one step, by the slot of its batch
  Graph round_;
};

}  // namespace mnist::MNIST_TARGET
