#include "host/engine/network.h"

#include <algorithm>
#include <string>

#include "host/nvtx.h"
#include "kernels/kernels.h"
#include "kernels/philox.h"

namespace mnist::MNIST_TARGET {

namespace {

ConvShape conv_shape(const Layer& layer, int n) {
  return {.n = n,
          .h = layer.input.h,
          .w = layer.input.w,
          .c = layer.input.c,
          .k = layer.units,
          .r = layer.window_h,
          .s = layer.window_w,
          .stride_h = layer.stride_h,
          .stride_w = layer.stride_w,
          .pad_h = layer.pad_h,
          .pad_w = layer.pad_w,
          .p = layer.output.h,
          .q = layer.output.w};
}

PoolShape pool_shape(const Layer& layer, int n) {
  return {.n = n,
          .h = layer.input.h,
          .w = layer.input.w,
          .c = layer.input.c,
          .window_h = layer.window_h,
          .window_w = layer.window_w,
          .stride_h = layer.stride_h,
          .stride_w = layer.stride_w,
          .pad_h = layer.pad_h,
          .pad_w = layer.pad_w,
          .p = layer.output.h,
          .q = layer.output.w};
}

DenseShape dense_shape(const Layer& layer, int n) {
  return {.n = n, .in = int(layer.input.size()), .out = layer.units};
}

// Its output is its input, without a launch.
bool is_identity(const Layer& layer, Mode mode) {
  return layer.kind == LayerKind::kFlatten ||
         (layer.kind == LayerKind::kDropout && (mode == Mode::kInference || layer.rate == 0));
}

int64_t output_pixels(const Layer& layer) {
  return int64_t(layer.output.h) * layer.output.w;
}

// Scratch floats that the backward launches of a layer need.
size_t workspace_size(const Layer& layer, int n) {
  size_t size = 0;
  if (layer.kind == LayerKind::kConv2D)
    size = conv2d_backward_filter_workspace(conv_shape(layer, n));
  if (layer.use_bias && layer.units > 0)
    size = std::max(size, bias_backward_workspace(n * output_pixels(layer), layer.units));
  return size;
}

}  // namespace

Network::Network(const Model& model, int max_batch, Mode mode, uint64_t seed)
    : model_(model),
      max_batch_(max_batch),
      mode_(mode),
      seed_(seed),
      input_(size_t(max_batch) * size_t(model.input.size())) {
  const auto batch = size_t(max_batch);
  size_t largest[2] = {};  // inference: of the outputs computed at even and at odd places
  size_t workspace = 0;
  std::vector<int> slot;  // of each layer, in storage_; -1: its input's
  int computed = 0;
  for (const Layer& layer : model.layers) {
    if (is_identity(layer, mode)) {
      slot.push_back(-1);
    } else {
      const size_t size = batch * size_t(layer.output.size());
      if (mode == Mode::kTraining) storage_.emplace_back(size);
      largest[computed % 2] = std::max(largest[computed % 2], size);
      slot.push_back(mode == Mode::kTraining ? computed : computed % 2);
      ++computed;
    }
    workspace = std::max(workspace, workspace_size(layer, max_batch));
  }
  if (mode == Mode::kInference)
    for (const size_t size : largest) storage_.emplace_back(size);
  for (const int s : slot)
    output_.push_back(s >= 0            ? storage_[size_t(s)].data()
                      : output_.empty() ? input_.data()
                                        : output_.back());
  argmax_.resize(model.layers.size());
  if (mode == Mode::kInference) return;

  // On the way back the gradients by the outputs of computed layers use two buffers in turns,
  // beginning with that of the logits.
  size_t turn = 0, sizes[2] = {};
  for (size_t i = model.layers.size(); i-- > 0;) {
    const Layer& layer = model.layers[i];
    if (layer.kind == LayerKind::kMaxPool2D)
      argmax_[i] = DeviceBuffer<uint8_t>(batch * size_t(layer.output.size()));
    if (slot[i] < 0) continue;
    sizes[turn] = std::max(sizes[turn], batch * size_t(layer.output.size()));
    turn ^= 1;
  }
  for (int i = 0; i < 2; ++i) gradient_[i] = DeviceBuffer<float>(sizes[i]);
  workspace_ = DeviceBuffer<float>(workspace);
}

const float* Network::forward(const float* weights, const StepState* state, int n,
                              cudaStream_t stream) {
  const float* x = input_.data();
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const Layer& layer = model_.layers[i];
    float* y = output_[i];
    const auto parameter = [&](const char* name) {
      const Parameter* found = model_.find(int(i), name);
      return found == nullptr ? nullptr : weights + found->offset;
    };
    const bool relu = layer.activation == Activation::kRelu;
    const NvtxRange range((layer.name + " forward").c_str());
    if (is_identity(layer, mode_)) continue;
    switch (layer.kind) {
      case LayerKind::kConv2D:
        conv2d_forward(y, x, parameter("kernel"), parameter("bias"), relu, conv_shape(layer, n),
                       stream);
        break;
      case LayerKind::kMaxPool2D:
        maxpool2d_forward(y, argmax_[i].data(), x, pool_shape(layer, n), stream);
        break;
      case LayerKind::kDropout:
        dropout(y, x, nullptr, state, float(layer.rate), seed_, kDropoutStream + uint32_t(i),
                size_t(n) * size_t(layer.output.size()), stream);
        break;
      case LayerKind::kDense:
        dense_forward(y, x, parameter("kernel"), parameter("bias"), relu, dense_shape(layer, n),
                      stream);
        break;
      case LayerKind::kFlatten:
        break;
    }
    x = y;
  }
  return x;
}

void Network::backward(float* gradients, const float* weights, const StepState* state, int n,
                       cudaStream_t stream) {
  size_t turn = 0;
  // Before the first layer with parameters nobody needs a gradient.
  const int first = model_.parameters.front().layer;
  for (int i = int(model_.layers.size()) - 1; i >= first; --i) {
    const Layer& layer = model_.layers[size_t(i)];
    if (is_identity(layer, mode_)) continue;
    const NvtxRange range((layer.name + " backward").c_str());
    const float* x = i == 0 ? input_.data() : output_[size_t(i) - 1];
    const float* dy = gradient_[turn].data();
    float* dx = gradient_[turn ^ 1].data();
    turn ^= 1;
    // The ReLU that made x, if one did: dx goes back through it at once.
    int producer = i - 1;
    while (producer >= 0 && is_identity(model_.layers[size_t(producer)], mode_)) --producer;
    const bool from_relu =
        producer >= 0 && model_.layers[size_t(producer)].activation == Activation::kRelu;
    const float* gate = from_relu ? x : nullptr;

    const Parameter* kernel = model_.find(i, "kernel");
    const Parameter* bias = model_.find(i, "bias");
    if (bias != nullptr)
      bias_backward(gradients + bias->offset, workspace_.data(), dy, n * output_pixels(layer),
                    layer.units, stream);
    switch (layer.kind) {
      case LayerKind::kConv2D: {
        const ConvShape shape = conv_shape(layer, n);
        conv2d_backward_filter(gradients + kernel->offset, workspace_.data(), x, dy, shape, stream);
        if (i > first) conv2d_backward_data(dx, dy, weights + kernel->offset, gate, shape, stream);
        break;
      }
      case LayerKind::kMaxPool2D:
        maxpool2d_backward(dx, dy, argmax_[size_t(i)].data(), gate, pool_shape(layer, n), stream);
        break;
      case LayerKind::kDropout:
        dropout(dx, dy, gate, state, float(layer.rate), seed_, kDropoutStream + uint32_t(i),
                size_t(n) * size_t(layer.output.size()), stream);
        break;
      case LayerKind::kDense: {
        const DenseShape shape = dense_shape(layer, n);
        dense_backward_filter(gradients + kernel->offset, x, dy, shape, stream);
        if (i > first) dense_backward_data(dx, dy, weights + kernel->offset, gate, shape, stream);
        break;
      }
      case LayerKind::kFlatten:
        break;
    }
  }
}

}  // namespace mnist::MNIST_TARGET
