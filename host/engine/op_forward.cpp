#include "host/engine/op_forward.h"

#include "host/engine/backends/layer_shapes.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

OpForward::OpForward(Backend& backend, const Model& model, const TrainingState& state,
                     int max_batch)
    : model_(model),
      state_(state),
      network_(backend, model, max_batch, Mode::kInference, 0),
      input_(size_t(max_batch) * size_t(model.input.size())) {}

const float* OpForward::logits(const uint8_t* images, int n, cudaStream_t compute) {
  {
    const NvtxRange phase("data");
    normalize(input_.data(), nullptr, images, nullptr, nullptr, nullptr, batch_shape(model_, n, n),
              compute);
  }
  return network_.forward(input_.data(), {state_.weights.data(), nullptr, n, compute});
}

}  // namespace mnist::MNIST_TARGET
