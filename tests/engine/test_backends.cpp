// The backends' operations one by one: each backend against the double-precision reference, and
// what differences() makes of backends that agree and of one that does not.

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "host/engine/backends/backends.h"
#include "host/engine/backends/layer_shapes.h"
#include "host/engine/check/case_on_host.h"
#include "host/engine/check/check_backends.h"
#include "host/engine/check/check_cases.h"
#include "host/engine/check/check_inputs.h"
#include "host/error.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/reference.h"

namespace mnist::MNIST_TARGET {

namespace {

#ifdef MNIST_SIMT
constexpr int kModelBatch = 16;
#else
constexpr int kModelBatch = 128;
#endif

using reference::Sums;
using reference::Tensor;

// The sums that a pooling of sums selects.
Sums pooled(const Sums& x, const PoolShape& shape) {
  const reference::Pooled pool = reference::maxpool2d_forward(x.value, shape);
  Sums y{pool.y, Tensor(pool.y.size()), x.length};
  size_t i = 0;
  for (int n = 0; n < shape.n; ++n)
    for (int p = 0; p < shape.p; ++p)
      for (int q = 0; q < shape.q; ++q)
        for (int c = 0; c < shape.c; ++c, ++i) {
          const int h = p * shape.stride_h - shape.pad_h + pool.argmax[i] / shape.window_w;
          const int w = q * shape.stride_w - shape.pad_w + pool.argmax[i] % shape.window_w;
          y.magnitude[i] = x.magnitude[size_t(((n * shape.h + h) * shape.w + w) * shape.c + c)];
        }
  return y;
}

struct Expected {
  Sums y, kernel, bias, dx;
};

// The whole operation by the reference, dx without gate.
Expected expected(const OpCase& op_case, const CheckInputs& in, int n) {
  const Model& model = op_case.model;
  const Tensor x = widen(in.x), dy = widen(in.dy);
  if (op_case.is_softmax()) return {reference::softmax(x, n, model.input.c), {}, {}, {}};
  const Layer& layer = model.layers.front();
  const auto parameter = [&](const char* name) {
    const Parameter* p = model.find(0, name);
    if (p == nullptr) return Tensor{};
    const auto begin = in.weights.begin() + std::ptrdiff_t(p->offset);
    return widen(std::vector<float>(begin, begin + std::ptrdiff_t(p->size)));
  };
  const Tensor kernel = parameter("kernel"), bias = parameter("bias");
  Expected e;
  if (layer.kind == LayerKind::kMaxPool2D) {
    const PoolShape shape = pool_shape(layer, n);
    const reference::Pooled pool = reference::maxpool2d_forward(x, shape);
    e.y = {pool.y, Tensor(pool.y.size(), 0.0), 1};
    e.dx = reference::maxpool2d_backward(dy, pool.argmax, shape);
    return e;
  }
  if (layer.kind == LayerKind::kDense) {
    const DenseShape shape = dense_shape(layer, n);
    e.y = reference::dense_forward(x, kernel, bias, shape);
    e.kernel = reference::dense_backward_filter(x, dy, shape);
    e.bias = reference::bias_backward(dy, n, shape.out);
    e.dx = reference::dense_backward_data(dy, kernel, shape);
  } else {
    const ConvShape shape = conv_shape(layer, n);
    e.y = reference::conv2d_forward(x, kernel, bias, shape);
    Tensor first_dy = dy;
    if (op_case.is_pair()) {
      e.y = reference::relu(e.y);
      const PoolShape pool = pool_shape(model.layers.back(), n);
      const auto argmax = reference::maxpool2d_forward(e.y.value, pool).argmax;
      first_dy = reference::maxpool2d_backward(dy, argmax, pool).value;
      e.y = pooled(e.y, pool);
    }
    e.kernel = reference::conv2d_backward_filter(x, first_dy, shape);
    e.bias = reference::bias_backward(first_dy, int64_t(n) * shape.p * shape.q, shape.k);
    e.dx = reference::conv2d_backward_data(first_dy, kernel, shape);
  }
  if (layer.activation == Activation::kRelu) e.y = reference::relu(e.y);
  return e;
}

std::string flat_difference(const std::vector<float>& actual, const Sums& want) {
  return difference(actual, want, {int64_t(actual.size())});
}

void require_reference(Backend& native, Backend& backend, const CheckCase& check) {
  const OpCase& op_case = check.op_case;
  CaseOnHost run(backend, op_case);
  for (const int n : check.batches) {
    INFO(op_case.name << " " << op_case.shape << ", batch " << n);
    const CheckInputs in = check_inputs(native, op_case, n);
    const Expected want = expected(op_case, in, n);
    const std::vector<float> y = run.forward(in.x, in.weights, n);
    REQUIRE(flat_difference(y, want.y) == "");
    if (op_case.is_softmax()) continue;
    for (const bool gate : {false, true}) {
      INFO("gate " << gate);
      const auto got = run.backward(in.dy, in.x, y, in.weights, gate, n);
      REQUIRE(flat_difference(got.x, gate ? reference::gated(want.dx, widen(in.x)) : want.dx) ==
              "");
      for (const auto& [name, sums] : {std::pair{"kernel", &want.kernel}, {"bias", &want.bias}}) {
        const Parameter* p = op_case.model.find(0, name);
        if (p == nullptr) continue;
        INFO("gradient of the " << name);
        const auto begin = got.weights.begin() + std::ptrdiff_t(p->offset);
        REQUIRE(flat_difference(std::vector<float>(begin, begin + std::ptrdiff_t(p->size)),
                                *sums) == "");
      }
    }
  }
}

// ---- a backend with a fault --------------------------------------------------------------------

enum class Fault { kForward, kFilter, kData, kSoftmax, kNan };

void change(float* on_device, float amount, cudaStream_t stream) {
  float value = 0;
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  REQUIRE(cudaMemcpy(&value, on_device, sizeof value, cudaMemcpyDeviceToHost) == cudaSuccess);
  value += amount;
  REQUIRE(cudaMemcpy(on_device, &value, sizeof value, cudaMemcpyHostToDevice) == cudaSuccess);
}

class FaultyOp final : public LayerOp {
 public:
  FaultyOp(std::unique_ptr<LayerOp> op, Fault fault)
      : LayerOp(op->name, op->output_size, op->ends_in_relu, op->has_parameters),
        op_(std::move(op)),
        fault_(fault) {}

  void forward(float* y, const float* x, const Pass& pass) override {
    op_->forward(y, x, pass);
    if (fault_ == Fault::kForward) change(y + pass.n * output_size - 1, 0.01f, pass.stream);
    if (fault_ == Fault::kNan) change(y, std::nanf(""), pass.stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    op_->backward_filter(gradients, dy, x, pass);
    if (fault_ == Fault::kFilter && has_parameters) change(gradients, 0.01f, pass.stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float* y, bool gate,
                     const Pass& pass) override {
    op_->backward_data(dx, dy, x, y, gate, pass);
    if (fault_ == Fault::kData) change(dx, 0.01f, pass.stream);
  }

 private:
  const std::unique_ptr<LayerOp> op_;
  const Fault fault_;
};

// Native, but for the operations with the given first layer.
class FaultyBackend final : public Backend {
 public:
  FaultyBackend(Fault fault, std::string layer) : fault_(fault), layer_(std::move(layer)) {}

  std::vector<std::unique_ptr<LayerOp>> layer_ops(const Model& model, int max_batch, Mode mode,
                                                  uint64_t seed) override {
    auto ops = native_->layer_ops(model, max_batch, mode, seed);
    for (auto& op : ops)
      if (op->name == layer_) op = std::make_unique<FaultyOp>(std::move(op), fault_);
    return ops;
  }
  void softmax(float* probabilities, const float* logits, int n, int classes,
               cudaStream_t stream) override {
    native_->softmax(probabilities, logits, n, classes, stream);
    if (fault_ == Fault::kSoftmax) change(probabilities, 0.01f, stream);
  }

 private:
  const std::unique_ptr<Backend> native_ = make_native_backend();
  const Fault fault_;
  const std::string layer_;
};

}  // namespace

TEST_CASE("operations of the native backend against the reference", "[backends]") {
  const auto native = make_native_backend();
  for (const CheckCase& check : check_cases(kModelBatch))
    DYNAMIC_SECTION(check.op_case.name << " " << check.op_case.shape) {
      require_reference(*native, *native, check);
    }
}

TEST_CASE("a backend does not differ from itself", "[backends]") {
  const auto native = make_native_backend();
  const std::vector<CheckCase> cases = check_cases(kModelBatch);
  const auto found = differences(*native, *native, cases);
  REQUIRE(found.size() > cases.size());
  for (const OperationDifference& d : found) {
    INFO(d.name << " " << d.shape);
    REQUIRE(d.largest == 0);
  }
}

TEST_CASE("the comparison finds the pass that is wrong", "[backends]") {
  const auto [fault, layer, passes] = GENERATE(table<Fault, std::string, std::vector<std::string>>(
      {{Fault::kForward, "conv2d", {"conv2d_forward"}},
       {Fault::kFilter, "conv2d", {"conv2d_backward_filter"}},
       {Fault::kData, "conv2d", {"conv2d_backward_data"}},
       {Fault::kFilter, "conv2d+max_pooling2d", {"conv2d_pool_backward_filter"}},
       {Fault::kData, "conv2d+max_pooling2d", {"conv2d_pool_backward_data"}},
       {Fault::kForward, "max_pooling2d", {"maxpool2d_forward"}},
       {Fault::kData, "max_pooling2d", {"maxpool2d_backward"}},
       {Fault::kNan, "dense", {"dense_forward"}},
       {Fault::kFilter, "dense", {"dense_backward_filter"}},
       {Fault::kSoftmax, "", {"softmax"}}}));
  const auto native = make_native_backend();
  FaultyBackend faulty(fault, layer);
  // Small ones, and of pairs the fused: others consist of layers that have the fault too.
  std::vector<CheckCase> cases = check_cases(2);
  std::erase_if(cases, [](const CheckCase& c) {
    const bool fused = !c.op_case.is_pair() || c.op_case.model.layers.front().window_w == 3;
    return c.op_case.batch > 7 || !fused;
  });
  for (const OperationDifference& d : differences(*native, faulty, cases)) {
    INFO(d.name << " " << d.shape << " differs by " << d.largest);
    const bool wrong = std::find(passes.begin(), passes.end(), d.name) != passes.end();
    REQUIRE(agrees(d) == !wrong);
    if (!wrong) REQUIRE(d.largest == 0);
  }
}

TEST_CASE("what a backend cannot run is reported, and the rest compared", "[backends]") {
  class NoPooling final : public Backend {
   public:
    std::vector<std::unique_ptr<LayerOp>> layer_ops(const Model& model, int max_batch, Mode mode,
                                                    uint64_t seed) override {
      for (const Layer& layer : model.layers)
        if (layer.kind == LayerKind::kMaxPool2D) throw std::runtime_error("no pooling here");
      return native_->layer_ops(model, max_batch, mode, seed);
    }
    void softmax(float* probabilities, const float* logits, int n, int classes,
                 cudaStream_t stream) override {
      native_->softmax(probabilities, logits, n, classes, stream);
    }

   private:
    const std::unique_ptr<Backend> native_ = make_native_backend();
  } other;
  const auto native = make_native_backend();
  const std::vector<CheckCase> cases{{make_op_case(2, {4, 4, 1}, "pool:2"), {2}},
                                     {make_op_case(2, {1, 1, 4}, "dense:3"), {2}}};
  const auto found = differences(*native, other, cases);
  REQUIRE(found.size() == 4);
  REQUIRE(found[0].name == "maxpool2d");
  REQUIRE(found[0].error == "no pooling here");
  REQUIRE_FALSE(agrees(found[0]));
  for (size_t i = 1; i < 4; ++i) REQUIRE(agrees(found[i]));
}

#ifndef MNIST_SIMT

TEST_CASE("operations of the cudnn backend", "[backends]") {
  const auto native = make_native_backend();
  std::unique_ptr<Backend> cudnn;
  try {
    cudnn = make_backend(BackendKind::kCudnn);
  } catch (const Error& error) {
    // Built with it, a module or library that is missing is a failure.
    if (std::string(error.what()).find("built without") == std::string::npos) throw;
    WARN("NOT RUN: " << error.what());
    return;
  }
  SECTION("against the reference") {
    for (const CheckCase& check : check_cases(kModelBatch))
      DYNAMIC_SECTION(check.op_case.name << " " << check.op_case.shape) {
        require_reference(*native, *cudnn, check);
      }
  }
  SECTION("against the native backend") {
    for (const OperationDifference& d : differences(*native, *cudnn, check_cases(kModelBatch))) {
      INFO(d.name << " " << d.shape << " differs by " << d.largest << " " << d.error);
      REQUIRE(agrees(d));
    }
  }
  SECTION("in FP16 against the native backend") {
    const auto halves = make_backend(BackendKind::kCudnn, {.fp16 = true});
    for (const OperationDifference& d : differences(*native, *halves, check_cases(kModelBatch))) {
      INFO(d.name << " " << d.shape << " differs by " << d.largest << " " << d.error);
      REQUIRE(agrees(d, Math::kFp16));
    }
  }
}

#endif

}  // namespace mnist::MNIST_TARGET
