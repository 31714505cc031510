#include "host/engine/backends/op_case.h"

#include "host/error.h"
#include "host/model/layer_kinds.h"

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
  const std::string first = describe(model.layers.front().kind).operation;
  return model.layers.size() > 1 ? first + "_pool" : first;
}

std::string shape_text(int batch, const Extent& e) {
  std::string text = std::to_string(batch) + "x";
  if (e.h > 1 || e.w > 1) text += std::to_string(e.h) + "x" + std::to_string(e.w) + "x";
  return text + std::to_string(e.c);
}

}  // namespace

OpCase make_op_case(int batch, const Extent& input, const std::string& layers) {
  const bool softmax = layers == "softmax";
  const std::string arch = (softmax ? "" : layers + ",") + "flatten,dense:1";
  OpCase result;
  result.model = without_last(parse_arch(arch, input), 2);
  result.name = name_of(result.model);
  result.shape = shape_text(batch, input) + (softmax ? "" : " " + layers);
  result.batch = batch;
  return result;
}

CaseOnBackend::CaseOnBackend(Backend& backend, const OpCase& op_case)
    : backend_(backend),
      case_(op_case),
      ops_(backend.layer_ops(case_.model, case_.batch, Mode::kTraining, 0)) {
  if (ops_.size() > 2) throw Error(ExitCode::kInternal, "a case of more than two ops");
  if (ops_.size() < 2) return;
  const size_t size = size_t(case_.batch) * size_t(ops_.front()->output_size);
  between_ = DeviceBuffer<float>(size);
  between_gradient_ = DeviceBuffer<float>(size);
}

void CaseOnBackend::load_weights(const Pass& pass) {
  for (const auto& op : ops_) op->load_weights(pass);
}

void CaseOnBackend::store_gradients(float* gradients, const Pass& pass) {
  for (const auto& op : ops_) op->store_gradients(gradients, pass);
}

void CaseOnBackend::forward(float* y, const float* x, const Pass& pass) {
  if (ops_.empty()) return backend_.softmax(y, x, pass.n, case_.model.input.c, pass.stream);
  const bool two = ops_.size() == 2;
  ops_.front()->forward(two ? between_.data() : y, x, pass);
  if (two) ops_.back()->forward(y, between_.data(), pass);
}

const float* CaseOnBackend::back_to_first(const float* dy, const float* y, const Pass& pass) {
  if (ops_.size() < 2) return dy;
  ops_.back()->backward_data(between_gradient_.data(), dy, between_.data(), y,
                             ops_.front()->ends_in_relu, pass);
  return between_gradient_.data();
}

void CaseOnBackend::backward_filter(float* gradients, const float* first_dy, const float* x,
                                    const Pass& pass) {
  ops_.front()->backward_filter(gradients, first_dy, x, pass);
}

void CaseOnBackend::backward_data(float* dx, const float* first_dy, const float* x, const float* y,
                                  bool gate, const Pass& pass) {
  ops_.front()->backward_data(dx, first_dy, x, ops_.size() == 2 ? between_.data() : y, gate, pass);
}

}  // namespace mnist::MNIST_TARGET
