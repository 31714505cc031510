// The native backend: the layers of a model on this project's kernels. Two things are left out
// because nothing depends on them: rows and columns that a later pooling drops, and what precedes
// the first parameters.
#include <algorithm>
#include <memory>

#include "host/engine/backends/backends.h"
#include "host/engine/backends/layer_shapes.h"
#include "host/engine/device/device_buffer.h"
#include "kernels/kernels.h"
#include "kernels/philox.h"

namespace mnist::MNIST_TARGET {

namespace {

// Rows and columns along which a layer is computed: `in` is stored, `out` is needed.
struct CroppedSizes {
  int in_h, in_w, out_h, out_w;
};

// What each layer has to compute, from the last one back to the first. The images are there anyway,
// and a dropout is computed whole: its mask counts the elements of its whole input.
std::vector<CroppedSizes> needed_sizes(const Model& model) {
  std::vector<CroppedSizes> sizes(model.layers.size());
  for (size_t i = model.layers.size(); i-- > 0;) {
    const Layer& layer = model.layers[i];
    CroppedSizes& e = sizes[i];
    const bool last = i + 1 == model.layers.size();
    e.out_h = last ? layer.output.h : sizes[i + 1].in_h;
    e.out_w = last ? layer.output.w : sizes[i + 1].in_w;
    e.in_h = layer.input.h;
    e.in_w = layer.input.w;
    const bool windows = layer.kind == LayerKind::kConv2D || layer.kind == LayerKind::kMaxPool2D;
    if (!windows || i == 0 || model.layers[i - 1].kind == LayerKind::kDropout) continue;
    e.in_h = std::min(e.in_h, (e.out_h - 1) * layer.stride_h - layer.pad_h + layer.window_h);
    e.in_w = std::min(e.in_w, (e.out_w - 1) * layer.stride_w - layer.pad_w + layer.window_w);
  }
  return sizes;
}

// A convolution's or a pooling's shape, as far as it is needed.
template <typename Shape>
Shape trimmed(Shape shape, const CroppedSizes& e) {
  shape.h = e.in_h;
  shape.w = e.in_w;
  shape.p = e.out_h;
  shape.q = e.out_w;
  return shape;
}

int64_t outputs(const Layer& layer, const CroppedSizes& e) {
  return int64_t{e.out_h} * e.out_w * layer.output.c;
}

template <typename Shape>
Shape for_batch(Shape shape, int n) {
  shape.n = n;
  return shape;
}

// For any batch of up to shape.n: a smaller one may be cut into more slices.
DeviceBuffer<float> filter_workspace(size_t (*floats)(const ConvShape&), ConvShape shape) {
  size_t most = 0;
  for (; shape.n > 0; --shape.n) most = std::max(most, floats(shape));
  return DeviceBuffer<float>(most);
}

class ConvOp final : public LayerOp {
 public:
  ConvOp(const Model& model, int layer, const CroppedSizes& sizes, int max_batch, Mode mode)
      : LayerOp(model.layers[size_t(layer)].name, outputs(model.layers[size_t(layer)], sizes),
                model.layers[size_t(layer)].activation == Activation::kRelu, true),
        offsets_(model, layer),
        shape_(trimmed(conv_shape(model.layers[size_t(layer)], max_batch), sizes)) {
    if (mode == Mode::kTraining)
      workspace_ = filter_workspace(conv2d_backward_filter_workspace, shape_);
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    conv2d_forward(y, x, offsets_.kernel_in(pass.weights), offsets_.bias_in(pass.weights),
                   ends_in_relu, for_batch(shape_, pass.n), pass.stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    conv2d_backward_filter(offsets_.kernel_in(gradients), offsets_.bias_in(gradients),
                           workspace_.data(), x, dy, for_batch(shape_, pass.n), pass.stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    conv2d_backward_data(dx, dy, offsets_.kernel_in(pass.weights), gate ? x : nullptr,
                         for_batch(shape_, pass.n), pass.stream);
  }

 private:
  const ParameterOffsets offsets_;
  const ConvShape shape_;
  DeviceBuffer<float> workspace_;
};

// A convolution and the 2x2 max pooling after it.
class ConvPoolOp final : public LayerOp {
 public:
  ConvPoolOp(const Model& model, int layer, const ConvShape& conv, Mode mode)
      : LayerOp(model.layers[size_t(layer)].name + "+" + model.layers[size_t(layer) + 1].name,
                int64_t(conv.output_size()) / 4 / conv.n,
                model.layers[size_t(layer)].activation == Activation::kRelu, true),
        offsets_(model, layer),
        shape_(conv) {
    if (mode == Mode::kInference) return;
    argmax_ = DeviceBuffer<uint8_t>(conv.output_size() / 4);
    workspace_ = filter_workspace(conv2d_pool_backward_filter_workspace, conv);
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    conv2d_pool_forward(y, argmax_.data(), x, offsets_.kernel_in(pass.weights),
                        offsets_.bias_in(pass.weights), ends_in_relu, for_batch(shape_, pass.n),
                        pass.stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    conv2d_pool_backward_filter(offsets_.kernel_in(gradients), offsets_.bias_in(gradients),
                                workspace_.data(), x, dy, argmax_.data(), for_batch(shape_, pass.n),
                                pass.stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    conv2d_pool_backward_data(dx, dy, argmax_.data(), offsets_.kernel_in(pass.weights),
                              gate ? x : nullptr, for_batch(shape_, pass.n), pass.stream);
  }

 private:
  const ParameterOffsets offsets_;
  const ConvShape shape_;
  DeviceBuffer<uint8_t> argmax_;  // empty at inference
  DeviceBuffer<float> workspace_;
};

class PoolOp final : public LayerOp {
 public:
  PoolOp(const Layer& layer, const CroppedSizes& sizes, int max_batch, Mode mode)
      : LayerOp(layer.name, outputs(layer, sizes), false, false),
        shape_(trimmed(pool_shape(layer, max_batch), sizes)) {
    if (mode == Mode::kTraining) argmax_ = DeviceBuffer<uint8_t>(shape_.output_size());
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    maxpool2d_forward(y, argmax_.data(), x, for_batch(shape_, pass.n), pass.stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    maxpool2d_backward(dx, dy, argmax_.data(), gate ? x : nullptr, for_batch(shape_, pass.n),
                       pass.stream);
  }

 private:
  const PoolShape shape_;
  DeviceBuffer<uint8_t> argmax_;  // empty at inference
};

class DenseOp final : public LayerOp {
 public:
  DenseOp(const Model& model, int layer)
      : LayerOp(model.layers[size_t(layer)].name, model.layers[size_t(layer)].units,
                model.layers[size_t(layer)].activation == Activation::kRelu, true),
        offsets_(model, layer),
        shape_(dense_shape(model.layers[size_t(layer)], 1)) {}

  void forward(float* y, const float* x, const Pass& pass) override {
    dense_forward(y, x, offsets_.kernel_in(pass.weights), offsets_.bias_in(pass.weights),
                  ends_in_relu, for_batch(shape_, pass.n), pass.stream);
  }
  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    dense_backward_filter(offsets_.kernel_in(gradients), offsets_.bias_in(gradients), x, dy,
                          for_batch(shape_, pass.n), pass.stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    dense_backward_data(dx, dy, offsets_.kernel_in(pass.weights), gate ? x : nullptr,
                        for_batch(shape_, pass.n), pass.stream);
  }

 private:
  const ParameterOffsets offsets_;
  const DenseShape shape_;
};

class DropoutOp final : public LayerOp {
 public:
  DropoutOp(const Layer& layer, int index, uint64_t seed)
      : LayerOp(layer.name, layer.output.size(), false, false),
        rate_(float(layer.rate)),
        seed_(seed),
        stream_number_(kDropoutStream + uint32_t(index)) {}

  void forward(float* y, const float* x, const Pass& pass) override {
    dropout(y, x, nullptr, pass.state, rate_, seed_, stream_number_, size_t(pass.n * output_size),
            pass.stream);
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    dropout(dx, dy, gate ? x : nullptr, pass.state, rate_, seed_, stream_number_,
            size_t(pass.n * output_size), pass.stream);
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
    const std::vector<CroppedSizes> sizes = needed_sizes(model);
    std::vector<std::unique_ptr<LayerOp>> ops;
    for (size_t i = 0; i < model.layers.size(); ++i) {
      const Layer& layer = model.layers[i];
      switch (layer.kind) {
        case LayerKind::kConv2D: {
          const ConvShape shape = trimmed(conv_shape(layer, max_batch), sizes[i]);
          const bool pooled = i + 1 < model.layers.size() && is_pool_2x2(model.layers[i + 1]);
          if (pooled && conv2d_pool_fits(shape)) {
            ops.push_back(std::make_unique<ConvPoolOp>(model, int(i), shape, mode));
            ++i;
          } else {
            ops.push_back(std::make_unique<ConvOp>(model, int(i), sizes[i], max_batch, mode));
          }
          break;
        }
        case LayerKind::kMaxPool2D:
          ops.push_back(std::make_unique<PoolOp>(layer, sizes[i], max_batch, mode));
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
