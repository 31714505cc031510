#include "host/engine/training_step.h"

#include <cinttypes>
#include <cstdio>

#include "host/engine/backends/layer_shapes.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

static_assert(kRoundBatches % 2 == 0, "every round begins with the same slot");

TrainingStep::TrainingStep(Backend& backend, const Model& model, const EngineConfig& config,
                           TrainingState& state)
    : model_(model),
      config_(config),
      state_(state),
      network_(backend, model, config.batch_size, Mode::kTraining, config.seed),
      loss_workspace_(softmax_xent_workspace(config.batch_size)) {
  const auto batch = size_t(config.batch_size);
  for (Slot& slot : slots_) {
    slot.images = DeviceBuffer<float>(batch * size_t(model.input.size()));
    slot.labels = DeviceBuffer<uint8_t>(batch);
  }
}

void TrainingStep::set_rows(const TrainingRows& rows) {
  rows_ = rows;
  for (Graph* graph : {&single_[0], &single_[1], &round_})
    *graph = Graph();  // they hold the addresses of the rows before
}

void TrainingStep::begin_epoch(int64_t batch, cudaStream_t compute) {
  const NvtxRange phase("data");
  gather(slots_[batch % 2], 0, compute);
}

void TrainingStep::run(int64_t begin, int64_t end, int64_t number, cudaStream_t compute) {
  // The first step of all loads the kernels, and the libraries make their plans: they could not
  // while a graph is recorded.
  if (!config_.eager && has_run_ && end - begin == kRoundBatches) {
    char name[64];
    std::snprintf(name, sizeof name, "steps %" PRId64 "..%" PRId64, number,
                  number + kRoundBatches - 1);
    const NvtxRange range(name);
    launch(round_, begin, end, compute);
    return;
  }
  for (int64_t batch = begin; batch < end; ++batch) {
    const NvtxRange range("step");
    if (config_.eager || !has_run_)
      enqueue(batch, compute);
    else
      launch(single_[batch % 2], batch, batch + 1, compute);
    has_run_ = true;
  }
}

void TrainingStep::launch(Graph& graph, int64_t begin, int64_t end, cudaStream_t compute) {
  if (!graph) {
    const NvtxRange range("capture");
    graph = Graph::capture(compute, [&] {
      for (int64_t batch = begin; batch < end; ++batch) enqueue(batch, compute);
    });
  }
  graph.launch(compute);
}

void TrainingStep::gather(const Slot& slot, int ahead, cudaStream_t stream) {
  BatchShape shape = batch_shape(model_, config_.batch_size, rows_.count);
  shape.ahead = ahead;
  normalize(slot.images.data(), slot.labels.data(), rows_.images, rows_.labels, rows_.order,
            state_.step.device(), shape, stream);
}

void TrainingStep::enqueue(int64_t batch, cudaStream_t compute) {
  const Slot& slot = slots_[batch % 2];
  StepState* step = state_.step.device();
  {
    // The other slot was last read by the step before. Reading over the bus takes its time, so it
    // comes first.
    const NvtxRange phase("data");
    started_.record(compute);
    started_.make_wait(data_);
    gather(slots_[(batch + 1) % 2], 1, data_);
    gathered_.record(data_);
  }
  const Pass pass{state_.weights.data(), step, config_.batch_size, compute};
  const float* logits = network_.forward(slot.images.data(), pass);
  {
    const NvtxRange phase("loss");
    softmax_xent(network_.dlogits(), state_.metrics.device(), loss_workspace_.data(), logits,
                 slot.labels.data(), step, config_.batch_size, model_.classes(), compute);
  }
  network_.backward(state_.gradients.data(), slot.images.data(), pass);
  const NvtxRange phase("optimizer");
  gathered_.make_wait(compute);  // it looks where the step is, which Adam moves on
  adam(state_.weights.data(), state_.m.data(), state_.v.data(), state_.gradients.data(), step,
       kAdam, model_.arena_size, compute);
}

}  // namespace mnist::MNIST_TARGET
