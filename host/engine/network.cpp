#include "host/engine/network.h"

#include <algorithm>

#include "host/nvtx.h"

namespace mnist::MNIST_TARGET {

Network::Network(Backend& backend, const Model& model, int max_batch, Mode mode, uint64_t seed)
    : ops_(backend.layer_ops(model, max_batch, mode, seed)) {
  const auto size = [&](const auto& op) { return size_t(max_batch) * size_t(op->output_size); };
  if (mode == Mode::kTraining) {
    for (const auto& op : ops_) {
      storage_.emplace_back(size(op));
      gradient_.emplace_back(size(op));
      output_.push_back(storage_.back().data());
    }
    const auto has_parameters = [](const auto& op) { return op->has_parameters; };
    first_with_parameters_ =
        size_t(std::find_if(ops_.begin(), ops_.end(), has_parameters) - ops_.begin());
    return;
  }
  size_t largest[2] = {};
  for (size_t i = 0; i < ops_.size(); ++i) largest[i % 2] = std::max(largest[i % 2], size(ops_[i]));
  for (const size_t floats : largest) storage_.emplace_back(floats);
  for (size_t i = 0; i < ops_.size(); ++i) output_.push_back(storage_[i % 2].data());
}

const float* Network::forward(const float* x, const Pass& pass) {
  const NvtxRange phase("forward");
  for (size_t i = 0; i < ops_.size(); ++i) {
    const NvtxRange range((ops_[i]->name + " forward").c_str());
    ops_[i]->load_weights(pass);
    ops_[i]->forward(output_[i], x, pass);
    x = output_[i];
  }
  return x;
}

void Network::backward(float* gradients, const float* x, const Pass& pass) {
  const NvtxRange phase("backward");
  bool forked = false;
  // What comes before the first layer with parameters needs no gradient.
  for (size_t i = ops_.size(); i-- > first_with_parameters_;) {
    LayerOp& op = *ops_[i];
    const NvtxRange range((op.name + " backward").c_str());
    const bool last = i == first_with_parameters_;
    const float* dy = gradient_[i].data();
    const float* input = i == 0 ? x : output_[i - 1];
    if (op.has_parameters) {
      // Nothing is left to overlap with the last one.
      if (!last) {
        forked_.record(pass.stream);
        forked_.make_wait(filters_);
        forked = true;
      }
      Pass beside = pass;
      if (!last) beside.stream = filters_;
      op.backward_filter(gradients, dy, input, beside);
      op.store_gradients(gradients, beside);
    }
    if (!last)
      op.backward_data(gradient_[i - 1].data(), dy, input, output_[i], ops_[i - 1]->ends_in_relu,
                       pass);
  }
  if (!forked) return;
  joined_.record(filters_);
  joined_.make_wait(pass.stream);
}

}  // namespace mnist::MNIST_TARGET
