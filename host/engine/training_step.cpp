#include "host/engine/training_step.h"

#include <cinttypes>
#include <cstdio>
#include <utility>

#include "host/nvtx.h"

namespace mnist::MNIST_TARGET {

static_assert(kRoundBatches % 2 == 0, "every round begins with the same slot");

TrainingStep::TrainingStep(std::unique_ptr<Step> step, bool eager)
    : step_(std::move(step)), eager_(eager) {}

void TrainingStep::set_rows(const TrainingRows& rows) {
  rows_ = rows;
  for (Graph* graph : {&single_[0], &single_[1], &round_})
    *graph = Graph();  // they hold the addresses of the rows before
}

void TrainingStep::begin_epoch(int64_t batch, cudaStream_t compute) {
  step_->begin_epoch(batch, rows_, compute);
}

void TrainingStep::run(int64_t begin, int64_t end, int64_t number, cudaStream_t compute) {
  // The first step of all loads the kernels, and the libraries make their plans: they could not
  // while a graph is recorded.
  if (!eager_ && has_run_ && end - begin == kRoundBatches) {
    char name[64];
    std::snprintf(name, sizeof name, "steps %" PRId64 "..%" PRId64, number,
                  number + kRoundBatches - 1);
    const NvtxRange range(name);
    launch(round_, begin, end, compute);
    return;
  }
  for (int64_t batch = begin; batch < end; ++batch) {
    const NvtxRange range("step");
    if (eager_ || !has_run_)
      step_->enqueue(batch, rows_, compute);
    else
      launch(single_[batch % 2], batch, batch + 1, compute);
    has_run_ = true;
  }
}

void TrainingStep::launch(Graph& graph, int64_t begin, int64_t end, cudaStream_t compute) {
  if (!graph) {
    const NvtxRange range("capture");
    graph = Graph::capture(compute, [&] {
      for (int64_t batch = begin; batch < end; ++batch) step_->enqueue(batch, rows_, compute);
    });
  }
  graph.launch(compute);
}

}  // namespace mnist::MNIST_TARGET
