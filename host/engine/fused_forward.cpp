#include "host/engine/fused_forward.h"

#include "host/nvtx.h"
#include "kernels/fused/fused.h"

namespace mnist::MNIST_TARGET {

FusedForward::FusedForward(const Model& model, const TrainingState& state, MetricSums* metrics,
                           int max_batch, cudaStream_t compute)
    : buffers_(model, state, metrics, max_batch, Mode::kInference, compute),
      logits_(size_t(max_batch) * fused::kClasses) {}

void FusedForward::load_weights(cudaStream_t compute) {
  fused_pack_weights(buffers_.memory(), compute);
}

const float* FusedForward::logits(const uint8_t* images, int n, cudaStream_t compute) {
  const NvtxRange phase("forward");
  fused_conv_forward(buffers_.memory(), images, n, compute);
  fused_dense_forward(buffers_.memory(), n, compute);
  fused_logits(logits_.data(), buffers_.memory(), n, compute);
  return logits_.data();
}

}  // namespace mnist::MNIST_TARGET
