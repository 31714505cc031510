// The layers of a model on this project's kernels. Two things are left out because nothing depends
// on them: rows and columns that a later pooling drops, and what precedes the first parameters.
#include <algorithm>
#include <memory>

#include "host/engine/backends/backend.h"
#include "host/engine/backends/layer_shapes.h"
#include "host/engine/device/device_buffer.h"
#include "kernels/kernels.h"
#include "kernels/philox.h"

namespace mnist::MNIST_TARGET {

namespace {

// Rows and columns along which a layer is computed: `in` is stored, `out` is needed.
struct Extents {
  int in_h, in_w, out_h, out_w;
};

// What each layer has to compute, from the last one back to the first.
std::vector<Extents> needed_extents(const Model& model) {
  std::vector<Extents> extents(model.layers.size());
  for (size_t i = model.layers.size(); i-- > 0;) {
    const Layer& layer = model.layers[i];
    Extents& e = extents[i];
    const bool last = i + 1 == model.layers.size();
    e.out_h = last ? layer.output.h : extents[i + 1].in_h;
    e.out_w = last ? layer.output.w : extents[i + 1].in_w;
    e.in_h = layer.input.h;
    e.in_w = layer.input.w;
    const bool windows = layer.kind == LayerKind::kConv2D || layer.kind == LayerKind::kMaxPool2D;
    if (!windows || i == 0) continue;  // the images are there anyway
    e.in_h = std::min(e.in_h, (e.out_h - 1) * layer.stride_h - layer.pad_h + layer.window_h);
    e.in_w = std::min(e.in_w, (e.out_w - 1) * layer.stride_w - layer.pad_w + layer.window_w);
  }
  return extents;
}

// A convolution's or a pooling's shape, as far as it is needed.
template <typename Shape>
Shape trimmed(Shape shape, const Extents& e) {
  shape.h = e.in_h;
  shape.w = e.in_w;
  shape.p = e.out_h;
  shape.q = e.out_w;
  return shape;
}

int64_t outputs(const Layer& layer, const Extents& e) {
  return int64_t{e.out_h} * e.out_w * layer.output.c;
}

// Where a layer's parameters lie in the arenas.
struct Parameters {
  Parameters(const Model& model, int layer)
      : kernel(model.find(layer, "kernel")), bias(model.find(layer, "bias")) {}

  template <typename T>
  T* kernel_in(T* arena) const {
    return arena + kernel->offset;
  }
  template <typename T>
  T* bias_in(T* arena) const {
    return bias == nullptr ? nullptr : arena + bias->offset;
  }

  const Parameter* kernel;
  const Parameter* bias;
};

// For any batch of up to shape.n: a smaller one may be cut into more slices.
DeviceBuffer<float> filter_workspace(size_t (*floats)(const ConvShape&), ConvShape shape) {
  size_t most = 0;
  for (; shape.n > 0; --shape.n) most = std::max(most, floats(shape));
  return DeviceBuffer<float>(most);
}

class ConvOp final : public LayerOp {
 public:
  ConvOp(const Model& model, int layer, const Extents& extents, int max_batch, Mode mode)
      : LayerOp(model.layers[size_t(layer)].name, outputs(model.layers[size_t(layer)], extents),
                model.layers[size_t(layer)].activation == Activation::kRelu, true),
        parameters_(model, layer),
        shape_(trimmed(conv_shape(model.layers[size_t(layer)], max_batch), extents)) {
    if (mode == Mode::kTraining)
      workspace_ = filter_workspace(conv2d_backward_filter_workspace, shape_);
  }

  void forward(float* y, const float* x, const float* weights, const StepState*, int n,
               cudaStream_t stream) override {
    conv2d_forward(y, x, parameters_.kernel_in(weights), parameters_.bias_in(weights), ends_in_relu,
                   shape(n), stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x, int n,
                       cudaStream_t stream) override {
    conv2d_backward_filter(parameters_.kernel_in(gradients), parameters_.bias_in(gradients),
                           workspace_.data(), x, dy, shape(n), stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, const float* weights,
                     bool gate, const StepState*, int n, cudaStream_t stream) override {
    conv2d_backward_data(dx, dy, parameters_.kernel_in(weights), gate ? x : nullptr, shape(n),
                         stream);
  }

 private:
  ConvShape shape(int n) const {
    ConvShape shape = shape_;
    shape.n = n;
    return shape;
  }

  const Parameters parameters_;
  const ConvShape shape_;
  DeviceBuffer<float> workspace_;
};

// A convolution and the 2x2 max pooling behind it.
class ConvPoolOp final : public LayerOp {
 public:
  ConvPoolOp(const Model& model, int layer, const ConvShape& conv, Mode mode)
      : LayerOp(model.layers[size_t(layer)].name + "+" + model.layers[size_t(layer) + 1].name,
                int64_t(conv.output_size()) / 4 / conv.n,
                model.layers[size_t(layer)].activation == Activation::kRelu, true),
        parameters_(model, layer),
        shape_(conv) {
    if (mode == Mode::kInference) return;
    argmax_ = DeviceBuffer<uint8_t>(conv.output_size() / 4);
    workspace_ = filter_workspace(conv2d_pool_backward_filter_workspace, conv);
  }

  void forward(float* y, const float* x, const float* weights, const StepState*, int n,
               cudaStream_t stream) override {
    conv2d_pool_forward(y, argmax_.data(), x, parameters_.kernel_in(weights),
                        parameters_.bias_in(weights), ends_in_relu, shape(n), stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x, int n,
                       cudaStream_t stream) override {
    conv2d_pool_backward_filter(parameters_.kernel_in(gradients), parameters_.bias_in(gradients),
                                workspace_.data(), x, dy, argmax_.data(), shape(n), stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, const float* weights,
                     bool gate, const StepState*, int n, cudaStream_t stream) override {
    conv2d_pool_backward_data(dx, dy, argmax_.data(), parameters_.kernel_in(weights),
                              gate ? x : nullptr, shape(n), stream);
  }

 private:
  ConvShape shape(int n) const {
    ConvShape shape = shape_;
    shape.n = n;
    return shape;
  }

  const Parameters parameters_;
  const ConvShape shape_;
  DeviceBuffer<uint8_t> argmax_;  // empty at inference
  DeviceBuffer<float> workspace_;
};

class PoolOp final : public LayerOp {
 public:
  PoolOp(const Layer& layer, const Extents& extents, int max_batch, Mode mode)
      : LayerOp(layer.name, outputs(layer, extents), false, false),
        shape_(trimmed(pool_shape(layer, max_batch), extents)) {
    if (mode == Mode::kTraining) argmax_ = DeviceBuffer<uint8_t>(shape_.output_size());
  }

  void forward(float* y, const float* x, const float*, const StepState*, int n,
               cudaStream_t stream) override {
    maxpool2d_forward(y, argmax_.data(), x, shape(n), stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, const float*,
                     bool gate, const StepState*, int n, cudaStream_t stream) override {
    maxpool2d_backward(dx, dy, argmax_.data(), gate ? x : nullptr, shape(n), stream);
  }

 private:
  PoolShape shape(int n) const {
    PoolShape shape = shape_;
    shape.n = n;
    return shape;
  }

  const PoolShape shape_;
  DeviceBuffer<uint8_t> argmax_;  // empty at inference
};

class DenseOp final : public LayerOp {
 public:
  DenseOp(const Model& model, int layer)
      : LayerOp(model.layers[size_t(layer)].name, model.layers[size_t(layer)].units,
                model.layers[size_t(layer)].activation == Activation::kRelu, true),
        parameters_(model, layer),
        in_(int(model.layers[size_t(layer)].input.size())) {}

  void forward(float* y, const float* x, const float* weights, const StepState*, int n,
               cudaStream_t stream) override {
    dense_forward(y, x, parameters_.kernel_in(weights), parameters_.bias_in(weights), ends_in_relu,
                  shape(n), stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x, int n,
                       cudaStream_t stream) override {
    dense_backward_filter(parameters_.kernel_in(gradients), parameters_.bias_in(gradients), x, dy,
                          shape(n), stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, const float* weights,
                     bool gate, const StepState*, int n, cudaStream_t stream) override {
    dense_backward_data(dx, dy, parameters_.kernel_in(weights), gate ? x : nullptr, shape(n),
                        stream);
  }

 private:
  DenseShape shape(int n) const { return {.n = n, .in = in_, .out = int(output_size)}; }

  const Parameters parameters_;
  const int in_;
};

class DropoutOp final : public LayerOp {
 public:
  DropoutOp(const Layer& layer, int index, uint64_t seed)
      : LayerOp(layer.name, layer.output.size(), false, false),
        rate_(float(layer.rate)),
        seed_(seed),
        stream_number_(kDropoutStream + uint32_t(index)) {}

  void forward(float* y, const float* x, const float*, const StepState* state, int n,
               cudaStream_t stream) override {
    dropout(y, x, nullptr, state, rate_, seed_, stream_number_, size_t(n * output_size), stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, const float*,
                     bool gate, const StepState* state, int n, cudaStream_t stream) override {
    dropout(dx, dy, gate ? x : nullptr, state, rate_, seed_, stream_number_,
            size_t(n * output_size), stream);
  }

 private:
  const float rate_;
  const uint64_t seed_;
  const uint32_t stream_number_;
};

bool is_pool_2x2(const Layer& layer) {
  return layer.kind == LayerKind::kMaxPool2D && layer.window_h == 2 && layer.window_w == 2 &&
         layer.stride_h == 2 && layer.stride_w == 2 && layer.pad_h == 0 && layer.pad_w == 0;
}

class NativeBackend final : public Backend {
 public:
  std::vector<std::unique_ptr<LayerOp>> layer_ops(const Model& model, int max_batch, Mode mode,
                                                  uint64_t seed) override {
    const std::vector<Extents> extents = needed_extents(model);
    std::vector<std::unique_ptr<LayerOp>> ops;
    for (size_t i = 0; i < model.layers.size(); ++i) {
      const Layer& layer = model.layers[i];
      switch (layer.kind) {
        case LayerKind::kConv2D: {
          const ConvShape shape = trimmed(conv_shape(layer, max_batch), extents[i]);
          const bool pooled = i + 1 < model.layers.size() && is_pool_2x2(model.layers[i + 1]);
          if (pooled && conv2d_pool_fits(shape)) {
            ops.push_back(std::make_unique<ConvPoolOp>(model, int(i), shape, mode));
            ++i;
          } else {
            ops.push_back(std::make_unique<ConvOp>(model, int(i), extents[i], max_batch, mode));
          }
          break;
        }
        case LayerKind::kMaxPool2D:
          ops.push_back(std::make_unique<PoolOp>(layer, extents[i], max_batch, mode));
          break;
        case LayerKind::kDense:
          ops.push_back(std::make_unique<DenseOp>(model, int(i)));
          break;
        case LayerKind::kDropout:
          if (auto op = make_dropout_op(model, int(i), mode, seed)) ops.push_back(std::move(op));
          break;
        case LayerKind::kFlatten:
          break;
      }
    }
    return ops;
  }

  void softmax(float* probabilities, const float* logits, int n, int classes,
               cudaStream_t stream) override {
    MNIST_TARGET::softmax(probabilities, logits, n, classes, stream);
  }
};

}  // namespace

std::unique_ptr<Backend> make_native_backend() {
  return std::make_unique<NativeBackend>();
}

std::unique_ptr<LayerOp> make_dropout_op(const Model& model, int layer, Mode mode, uint64_t seed) {
  const Layer& dropout = model.layers[size_t(layer)];
  if (mode == Mode::kInference || dropout.rate == 0) return nullptr;
  return std::make_unique<DropoutOp>(dropout, layer, seed);
}

}  // namespace mnist::MNIST_TARGET
