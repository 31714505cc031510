// Runs training steps: one by one, or recorded as CUDA graphs of one step or eight.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/engine/device/stream.h"
#include "host/engine/step.h"
#include "host/engine/training_set.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

// Batches of an epoch that one launch trains on: those of a report.
inline constexpr int kRoundBatches = kReportBatches;

class TrainingStep {
 public:
  // `eager`: launches each kernel, no graph.
  TrainingStep(std::unique_ptr<Step> step, bool eager);

  // From where the next steps take their batches.
  void set_rows(const TrainingRows& rows);

  // As Step::begin_epoch().
  void begin_epoch(int64_t batch, cudaStream_t compute);
  // Trains on batches [begin,end) of the epoch, all of one round; a whole round is one launch.
  // `number` is that of the first among the steps of the run, for profilers.
  void run(int64_t begin, int64_t end, int64_t number, cudaStream_t compute);

  // Nodes of the graph of one step; 0 as long as there is none.
  size_t nodes() const { return single_[0] ? single_[0].nodes() : single_[1].nodes(); }

 private:
  void launch(Graph& graph, int64_t begin, int64_t end, cudaStream_t compute);

  const std::unique_ptr<Step> step_;
  const bool eager_;
  TrainingRows rows_{};
  bool has_run_ = false;
  Graph single_[2];  // of one step, by the slot of its batch
  Graph round_;
};

}  // namespace mnist::MNIST_TARGET
