#include "host/engine/training_step.h"

#include "host/engine/backends/layer_shapes.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

TrainingStep::TrainingStep(Backend& backend, const Model& model, const EngineConfig& config,
                           TrainingState& state, cudaStream_t compute)
    : model_(model),
      config_(config),
      state_(state),
      network_(backend, model, config.batch_size, Mode::kTraining, config.seed),
      labels_(size_t(config.batch_size)),
      loss_workspace_(softmax_xent_workspace(config.batch_size)) {
  if (config.backend == BackendKind::kNative) return;
  // Libraries load code and allocate memory when first called, which a stream that records a graph
  // does not allow. What this computes is overwritten by the first step.
  const NvtxRange range("warm-up");
  const Pass pass{state.weights.data(), state.step.device(), config.batch_size, compute};
  network_.forward(pass);
  network_.backward(state.gradients.data(), pass);
}

void TrainingStep::set_source(const BatchRows& rows) {
  rows_ = rows;
  graph_ = Graph();  // it holds the addresses of the rows before
}

void TrainingStep::prepare(cudaStream_t compute) {
  if (config_.eager || graph_) return;
  const NvtxRange range("capture");
  graph_ = Graph::capture(compute, [&] { enqueue(compute); });
}

void TrainingStep::run(cudaStream_t compute) {
  const NvtxRange range("step");
  if (config_.eager)
    enqueue(compute);
  else
    graph_.launch(compute);
}

void TrainingStep::enqueue(cudaStream_t compute) {
  const int batch = config_.batch_size;
  StepState* step = state_.step.device();
  {
    const NvtxRange phase("data");
    normalize(network_.input(), labels_.data(), rows_.images, rows_.labels, rows_.permutation, step,
              batch_shape(model_, batch, rows_.count), compute);
  }
  const Pass pass{state_.weights.data(), step, batch, compute};
  const float* logits = network_.forward(pass);
  {
    const NvtxRange phase("loss");
    softmax_xent(network_.dlogits(), state_.metrics.device(), loss_workspace_.data(), logits,
                 labels_.data(), step, batch, model_.classes(), compute);
  }
  network_.backward(state_.gradients.data(), pass);
  const NvtxRange phase("optimizer");
  adam(state_.weights.data(), state_.m.data(), state_.v.data(), state_.gradients.data(), step,
       kAdam, model_.arena_size, compute);
}

}  // namespace mnist::MNIST_TARGET
