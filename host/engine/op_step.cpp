#include "host/engine/op_step.h"

#include "host/engine/backends/layer_shapes.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

OpStep::OpStep(Backend& backend, const Model& model, const EngineConfig& config,
               TrainingState& state)
    : model_(model),
      batch_size_(config.batch_size),
      state_(state),
      network_(backend, model, config.batch_size, Mode::kTraining, config.seed),
      loss_workspace_(softmax_xent_workspace(config.batch_size)) {
  const auto batch = size_t(config.batch_size);
  for (Slot& slot : slots_) {
    slot.images = DeviceBuffer<float>(batch * size_t(model.input.size()));
    slot.labels = DeviceBuffer<uint8_t>(batch);
  }
}

void OpStep::begin_epoch(int64_t batch, const TrainingRows& rows, cudaStream_t compute) {
  const NvtxRange phase("data");
  gather(slots_[batch % 2], rows, 0, compute);
}

void OpStep::gather(const Slot& slot, const TrainingRows& rows, int ahead, cudaStream_t stream) {
  BatchShape shape = batch_shape(model_, batch_size_, rows.count);
  shape.ahead = ahead;
  normalize(slot.images.data(), slot.labels.data(), rows.images, rows.labels, rows.order,
            state_.step.device(), shape, stream);
}

void OpStep::enqueue(int64_t batch, const TrainingRows& rows, cudaStream_t compute) {
  const Slot& slot = slots_[batch % 2];
  StepState* step = state_.step.device();
  {
    // The other slot was last read by the step before. Reading over the bus takes its time, so it
    // comes first.
    const NvtxRange phase("data");
    started_.record(compute);
    started_.make_wait(data_);
    gather(slots_[(batch + 1) % 2], rows, 1, data_);
    gathered_.record(data_);
  }
  const Pass pass{state_.weights.data(), step, batch_size_, compute};
  const float* logits = network_.forward(slot.images.data(), pass);
  {
    const NvtxRange phase("loss");
    softmax_xent(network_.dlogits(), state_.metrics.device(), loss_workspace_.data(), logits,
                 slot.labels.data(), step, batch_size_, model_.classes(), compute);
  }
  network_.backward(state_.gradients.data(), slot.images.data(), pass);
  const NvtxRange phase("optimizer");
  gathered_.make_wait(compute);  // it looks where the step is, which Adam moves on
  adam(state_.weights.data(), state_.m.data(), state_.v.data(), state_.gradients.data(), step,
       kAdam, model_.arena_size, compute);
}

}  // namespace mnist::MNIST_TARGET
