#include "host/engine/backends/op_case.h"

#include "host/error.h"

namespace mnist::MNIST_TARGET {

namespace {

// The chain without what had to follow it to make a whole network.
Model without_last(Model model, size_t layers) {
  model.layers.resize(model.layers.size() - layers);
  const auto beyond = [&](const Parameter& p) { return size_t(p.layer) >= model.layers.size(); };
  while (!model.parameters.empty() && beyond(model.parameters.back())) {
    model.arena_size = model.parameters.back().offset;
    model.parameters.pop_back();
  }
  return model;
}

std::string name_of(const Model& model) {
  if (model.layers.empty()) return "softmax";
  switch (model.layers.front().kind) {
    case LayerKind::kConv2D:
      return model.layers.size() > 1 ? "conv2d_pool" : "conv2d";
    case LayerKind::kMaxPool2D:
      return "maxpool2d";
    default:
      return "dense";
  }
}

std::string shape_text(int batch, const Extent& e) {
  std::string text = std::to_string(batch) + "x";
  if (e.h > 1 || e.w > 1) text += std::to_string(e.h) + "x" + std::to_string(e.w) + "x";
  return text + std::to_string(e.c);
}

}  // namespace

Operation make_operation(int batch, const Extent& input, const std::string& layers) {
  const bool softmax = layers == "softmax";
  const std::string arch = (softmax ? "" : layers + ",") + "flatten,dense:1";
  Operation operation;
  operation.model = without_last(parse_arch(arch, input), 2);
  operation.name = name_of(operation.model);
  operation.shape = shape_text(batch, input) + (softmax ? "" : " " + layers);
  operation.batch = batch;
  return operation;
}

BackendOperation::BackendOperation(Backend& backend, const Operation& operation)
    : backend_(backend),
      operation_(operation),
      ops_(backend.layer_ops(operation_.model, operation_.batch, Mode::kTraining, 0)) {
  if (ops_.size() > 2) throw Error(ExitCode::kInternal, "an operation of more than two ops");
  if (ops_.size() < 2) return;
  const size_t size = size_t(operation_.batch) * size_t(ops_.front()->output_size);
  between_ = DeviceBuffer<float>(size);
  between_gradient_ = DeviceBuffer<float>(size);
}

void BackendOperation::load_weights(const float* weights, cudaStream_t stream) {
  for (const auto& op : ops_) op->load_weights(weights, stream);
}

void BackendOperation::store_gradients(float* gradients, cudaStream_t stream) {
  for (const auto& op : ops_) op->store_gradients(gradients, stream);
}

void BackendOperation::forward(float* y, const float* x, const float* weights, int n,
                               cudaStream_t stream) {
  if (ops_.empty()) return backend_.softmax(y, x, n, operation_.model.input.c, stream);
  const bool two = ops_.size() == 2;
  ops_.front()->forward(two ? between_.data() : y, x, weights, nullptr, n, stream);
  if (two) ops_.back()->forward(y, between_.data(), weights, nullptr, n, stream);
}

const float* BackendOperation::back_to_first(const float* dy, const float* y, const float* weights,
                                             int n, cudaStream_t stream) {
  if (ops_.size() < 2) return dy;
  ops_.back()->backward_data(between_gradient_.data(), dy, between_.data(), y, weights,
                             ops_.front()->ends_in_relu, nullptr, n, stream);
  return between_gradient_.data();
}

void BackendOperation::backward_filter(float* gradients, const float* first_dy, const float* x,
                                       int n, cudaStream_t stream) {
  ops_.front()->backward_filter(gradients, first_dy, x, n, stream);
}

void BackendOperation::backward_data(float* dx, const float* first_dy, const float* x,
                                     const float* y, const float* weights, bool gate, int n,
                                     cudaStream_t stream) {
  ops_.front()->backward_data(dx, first_dy, x, ops_.size() == 2 ? between_.data() : y, weights,
                              gate, nullptr, n, stream);
}

}  // namespace mnist::MNIST_TARGET
