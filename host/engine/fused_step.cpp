#include "host/engine/fused_step.h"

#include "host/nvtx.h"

namespace mnist::MNIST_TARGET {

namespace {

FusedSource source_of(const TrainingRows& rows) {
  return {.images = rows.images, .labels = rows.labels, .permutation = rows.order};
}

}  // namespace

FusedStep::FusedStep(const Model& model, int batch_size, const TrainingState& state,
                     cudaStream_t compute)
    : batch_size_(batch_size),
      buffers_(model, state, state.metrics.device(), batch_size, Mode::kTraining, compute),
      slots_{buffers_.add_batch(), buffers_.add_batch()} {}

void FusedStep::begin_epoch(int64_t batch, const TrainingRows& rows, cudaStream_t compute) {
  const NvtxRange phase("data");
  // The pixels first: the step may look at them while the kernel just before it ends.
  fused_gather(slots_[batch % 2], source_of(rows), buffers_.memory(), batch_size_, 0, compute);
  fused_pack_weights(buffers_.memory(), compute);
}

void FusedStep::enqueue(int64_t batch, const TrainingRows& rows, cudaStream_t compute) {
  const FusedMemory& memory = buffers_.memory();
  const FusedBatch& now = slots_[batch % 2];
  {
    const NvtxRange phase("forward");
    fused_conv_forward_training(memory, now.pixels, batch_size_, compute);
    fused_dense_forward_training(memory, slots_[(batch + 1) % 2], source_of(rows), batch_size_,
                                 compute);
  }
  {
    const NvtxRange phase("loss");
    fused_head(memory, now.labels, batch_size_, kAdam, compute);
  }
  {
    const NvtxRange phase("backward");
    fused_conv_backward(memory, now.pixels, batch_size_, compute);
  }
  const NvtxRange phase("optimizer");
  fused_update_filters(memory, batch_size_, kAdam, compute);
}

}  // namespace mnist::MNIST_TARGET
