#include "host/engine/bench/library_step.h"

#include <algorithm>
#include <limits>
#include <random>

#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

LibraryStep::LibraryStep(Backend& backend, int batch)
    : batch_(batch),
      model_(parse_arch(kDefaultArch)),
      state_(model_, 0, stream_),
      ops_(backend.layer_ops(model_, batch, Mode::kTraining, 0)),
      dense_(ops_.size() - 2),
      images_(size_t(batch) * size_t(model_.input.size())),
      loss_workspace_(softmax_xent_workspace(batch)),
      labels_(size_t(batch)) {
  for (const auto& op : ops_)
    for (auto* buffers : {&output_, &gradient_})
      buffers->emplace_back(size_t(batch) * size_t(op->output_size));
  state_.initialize(1, 0, stream_);
  state_.begin_epoch(std::numeric_limits<int32_t>::max(), 0, {}, stream_);
  stream_.synchronize();
  std::minstd_rand random(1);
  std::vector<float> pixels(images_.size());
  std::generate(pixels.begin(), pixels.end(), [&] { return float(random() % 256) / 255; });
  std::vector<uint8_t> labels(labels_.size());
  std::generate(labels.begin(), labels.end(), [&] { return uint8_t(random() % 10); });
  CUDA_CHECK(cudaMemcpy(images_.data(), pixels.data(), images_.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(labels_.data(), labels.data(), labels_.bytes(), cudaMemcpyHostToDevice));
}

void LibraryStep::conv_forward(cudaStream_t stream) {
  forward(0, dense_, stream);
}

void LibraryStep::dense_forward(cudaStream_t stream) {
  forward(dense_, dense_ + 1, stream);
}

void LibraryStep::head(cudaStream_t stream) {
  forward(dense_ + 1, ops_.size(), stream);
  softmax_xent(gradient_.back().data(), state_.metrics.device(), loss_workspace_.data(),
               output_.back().data(), labels_.data(), state_.step.device(), batch_,
               model_.classes(), stream);
  backward(dense_, ops_.size(), stream);
  const Parameter& large = model_.parameters[model_.parameters.size() - 4];
  update(large.offset, large.size, stream);
}

void LibraryStep::conv_backward(cudaStream_t stream) {
  backward(0, dense_, stream);
}

// One call for what lies on both sides of the large filter: as many floats from the arenas' begin.
void LibraryStep::update_filters(cudaStream_t stream) {
  update(0, model_.arena_size - model_.parameters[model_.parameters.size() - 4].size, stream);
}

void LibraryStep::forward(size_t begin, size_t end, cudaStream_t stream) {
  for (size_t i = begin; i < end; ++i) {
    ops_[i]->load_weights(pass(stream));
    ops_[i]->forward(output_[i].data(), i == 0 ? images_.data() : output_[i - 1].data(),
                     pass(stream));
  }
}

void LibraryStep::backward(size_t begin, size_t end, cudaStream_t stream) {
  for (size_t i = end; i-- > begin;) {
    LayerOp& op = *ops_[i];
    const float* dy = gradient_[i].data();
    const float* x = i == 0 ? images_.data() : output_[i - 1].data();
    if (op.has_parameters) {
      op.backward_filter(state_.gradients.data(), dy, x, pass(stream));
      op.store_gradients(state_.gradients.data(), pass(stream));
    }
    if (i > 0)
      op.backward_data(gradient_[i - 1].data(), dy, x, output_[i].data(), ops_[i - 1]->ends_in_relu,
                       pass(stream));
  }
}

void LibraryStep::update(size_t begin, size_t size, cudaStream_t stream) {
  adam(state_.weights.data() + begin, state_.m.data() + begin, state_.v.data() + begin,
       state_.gradients.data() + begin, state_.step.device(), kAdam, size, stream);
}

}  // namespace mnist::MNIST_TARGET
