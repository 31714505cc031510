#include "tests/support/reference_network.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "host/engine/backends/layer_shapes.h"
#include "tests/support/compare.h"

namespace mnist::reference {
namespace {

Tensor magnitudes(Tensor values) {
  for (double& value : values) value = std::fabs(value);
  return values;
}

// |value| + error: the largest that the float32 network may have.
Tensor reach(const Bounded& x) {
  Tensor result = magnitudes(x.value);
  for (size_t i = 0; i < result.size(); ++i) result[i] += x.error[i];
  return result;
}

Bounded rounded(const Sums& sums) {
  Bounded result{sums.value, Tensor(sums.value.size())};
  for (size_t i = 0; i < sums.value.size(); ++i) result.error[i] = rounding_error(sums, i);
  return result;
}

void add(Tensor& to, const Tensor& from) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

// Calls visit(index of y, index of x, place in the window) for every position of every window.
template <typename Visit>
void for_each_place(const PoolShape& s, Visit visit) {
  size_t y = 0;
  for (int n = 0; n < s.n; ++n)
    for (int p = 0; p < s.p; ++p)
      for (int q = 0; q < s.q; ++q)
        for (int c = 0; c < s.c; ++c, ++y)
          for (int place = 0; place < s.window_h * s.window_w; ++place) {
            const int h = p * s.stride_h - s.pad_h + place / s.window_w;
            const int w = q * s.stride_w - s.pad_w + place % s.window_w;
            if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
            visit(y, ((size_t(n) * s.h + h) * s.w + w) * s.c + c, place);
          }
}

Bounded pool_forward(const Bounded& x, const PoolShape& shape) {
  Bounded y{maxpool2d_forward(x.value, shape).y, Tensor(shape.output_size(), 0.0)};
  for_each_place(
      shape, [&](size_t iy, size_t ix, int) { y.error[iy] = std::max(y.error[iy], x.error[ix]); });
  return y;
}

Bounded pool_backward(const Bounded& dy, const Bounded& x, const PoolShape& shape) {
  const std::vector<uint8_t> argmax = maxpool2d_forward(x.value, shape).argmax;
  Bounded dx = rounded(maxpool2d_backward(dy.value, argmax, shape));
  std::vector<size_t> winner(argmax.size());
  for_each_place(shape, [&](size_t iy, size_t ix, int place) {
    if (place == argmax[iy]) winner[iy] = ix;
  });
  std::vector<bool> contested(argmax.size());
  for_each_place(shape, [&](size_t iy, size_t ix, int) {
    const double either = x.error[ix] + x.error[winner[iy]];
    if (ix == winner[iy] || either == 0 || x.value[winner[iy]] - x.value[ix] > either) return;
    contested[iy] = true;
    dx.error[ix] += std::fabs(dy.value[iy]) + dy.error[iy];
  });
  for (size_t iy = 0; iy < winner.size(); ++iy)
    dx.error[winner[iy]] += dy.error[iy] + (contested[iy] ? std::fabs(dy.value[iy]) : 0);
  return dx;
}

// The bound of dx or of dw, for a layer whose three operations are given.
template <typename Shape, typename Forward>
Bounded weighted_forward(const Bounded& x, const Tensor& w, const Tensor& bias, const Shape& shape,
                         Forward forward) {
  Bounded y = rounded(forward(x.value, w, bias, shape));
  add(y.error, forward(x.error, magnitudes(w), {}, shape).value);
  return y;
}

template <typename Shape, typename Filter>
Bounded weighted_filter(const Bounded& x, const Bounded& dy, const Shape& shape, Filter filter) {
  Bounded dw = rounded(filter(x.value, dy.value, shape));
  add(dw.error, filter(magnitudes(x.value), dy.error, shape).value);
  add(dw.error, filter(x.error, reach(dy), shape).value);
  return dw;
}

template <typename Shape, typename Data>
Bounded weighted_data(const Bounded& dy, const Tensor& w, const Shape& shape, Data data) {
  Bounded dx = rounded(data(dy.value, w, shape));
  add(dx.error, data(dy.error, magnitudes(w), shape).value);
  return dx;
}

Bounded bias_gradient(const Bounded& dy, int64_t rows, int cols) {
  Bounded db = rounded(bias_backward(dy.value, rows, cols));
  add(db.error, bias_backward(dy.error, rows, cols).value);
  return db;
}

// The float factor of what dropout keeps.
Bounded scaled(const Bounded& x, const std::vector<float>& mask) {
  Bounded y = x;
  for (size_t i = 0; i < mask.size(); ++i) {
    y.value[i] *= double(mask[i]);
    y.error[i] = y.error[i] * double(mask[i]) + kFloatEpsilon * std::fabs(y.value[i]);
  }
  return y;
}

double largest(const double* begin, const double* end) {
  return begin == end ? 0 : *std::max_element(begin, end);
}

}  // namespace

Bounded exact(const std::vector<float>& values) {
  return {widen(values), Tensor(values.size(), 0.0)};
}

Network::Network(const Model& model, const std::vector<float>& weights)
    : model_(model), weights_(widen(weights)) {}

Tensor Network::parameter(int layer, const char* name) const {
  const Parameter* p = model_.find(layer, name);
  if (p == nullptr) return {};
  const auto begin = weights_.begin() + std::ptrdiff_t(p->offset);
  return Tensor(begin, begin + std::ptrdiff_t(p->size));
}

// Of a dropout's input: 0 where it drops, else the factor. Empty: everything is kept as it is.
std::vector<float> Network::mask(const Layer& layer, int index) const {
  constexpr uint32_t kStreams = 0x30000000;  // the documented number of the first dropout's stream
  const float rate = float(layer.rate);
  if (!dropout_ || rate == 0) return {};
  std::vector<float> mask(size_t(n_) * size_t(layer.input.size()));
  for (size_t i = 0; i < mask.size(); ++i)
    if (dropout_keeps(i, dropout_->iteration, rate, dropout_->seed, kStreams + uint32_t(index)))
      mask[i] = float(1 / (1 - double(rate)));
  return mask;
}

Bounded Network::forward(const Layer& layer, int index, const Bounded& x) {
  const Tensor kernel = parameter(index, "kernel"), bias = parameter(index, "bias");
  switch (layer.kind) {
    case LayerKind::kConv2D:
      return weighted_forward(x, kernel, bias, conv_shape(layer, n_), conv2d_forward);
    case LayerKind::kMaxPool2D:
      return pool_forward(x, pool_shape(layer, n_));
    case LayerKind::kDense:
      return weighted_forward(x, kernel, bias, dense_shape(layer, n_), dense_forward);
    case LayerKind::kDropout:
      return scaled(x, mask(layer, index));
    case LayerKind::kFlatten:
      break;
  }
  return x;
}

const Bounded& Network::forward(Bounded input, int n, const std::optional<DropoutState>& dropout) {
  n_ = n;
  dropout_ = dropout;
  x_ = {std::move(input)};
  undecided_.clear();
  for (int i = 0; i < int(model_.layers.size()); ++i) {
    const Layer& layer = model_.layers[size_t(i)];
    Bounded y = forward(layer, i, x_.back());
    std::vector<bool> undecided;
    if (layer.activation == Activation::kRelu)
      for (size_t j = 0; j < y.value.size(); ++j) {
        double &value = y.value[j], &error = y.error[j];
        undecided.push_back(error > 0 && std::fabs(value) <= error);
        if (value <= 0 && !undecided.back()) error = 0;
        value = std::max(value, 0.0);
      }
    undecided_.push_back(std::move(undecided));
    x_.push_back(std::move(y));
  }
  return x_.back();
}

Bounded Network::backward(const Layer& layer, int index, const Bounded& x, const Bounded& dy) {
  const auto store = [&](const char* name, const Bounded& values) {
    const Parameter* p = model_.find(index, name);
    if (p == nullptr) return;
    const auto offset = std::ptrdiff_t(p->offset);
    std::copy(values.value.begin(), values.value.end(), gradients_.value.begin() + offset);
    std::copy(values.error.begin(), values.error.end(), gradients_.error.begin() + offset);
  };
  const Tensor kernel = parameter(index, "kernel");
  switch (layer.kind) {
    case LayerKind::kConv2D: {
      const ConvShape shape = conv_shape(layer, n_);
      store("kernel", weighted_filter(x, dy, shape, conv2d_backward_filter));
      store("bias", bias_gradient(dy, int64_t(n_) * shape.p * shape.q, shape.k));
      return weighted_data(dy, kernel, shape, conv2d_backward_data);
    }
    case LayerKind::kMaxPool2D:
      return pool_backward(dy, x, pool_shape(layer, n_));
    case LayerKind::kDense: {
      const DenseShape shape = dense_shape(layer, n_);
      store("kernel", weighted_filter(x, dy, shape, dense_backward_filter));
      store("bias", bias_gradient(dy, n_, shape.out));
      return weighted_data(dy, kernel, shape, dense_backward_data);
    }
    case LayerKind::kDropout:
      return scaled(dy, mask(layer, index));
    case LayerKind::kFlatten:
      break;
  }
  return dy;
}

Bounded Network::backward(Bounded dlogits) {
  gradients_ = {Tensor(model_.arena_size, 0.0), Tensor(model_.arena_size, 0.0)};
  Bounded dy = std::move(dlogits);
  for (int i = int(model_.layers.size()); i-- > 0;) {
    const std::vector<bool>& undecided = undecided_[size_t(i)];  // as long as y: there is a ReLU
    const Tensor& y = x_[size_t(i) + 1].value;
    for (size_t j = 0; j < undecided.size(); ++j) {
      if (undecided[j])
        dy.error[j] += std::fabs(dy.value[j]);
      else if (!(y[j] > 0))
        dy.error[j] = 0;
      if (!(y[j] > 0)) dy.value[j] = 0;
    }
    dy = backward(model_.layers[size_t(i)], i, x_[size_t(i)], dy);
  }
  return std::move(gradients_);
}

// An error e in every logit moves a loss by at most 2e, and a probability p by a factor of
// exp(2e) at most.
BoundedLoss softmax_xent(const Bounded& logits, const std::vector<uint8_t>& labels, int rows, int n,
                         int classes) {
  const CrossEntropy entropy = softmax_xent(logits.value, labels, rows, n, classes);
  const Tensor p = softmax(logits.value, n, classes).value;
  BoundedLoss loss{rounded(entropy.dlogits), entropy.loss.value[0], rounding_error(entropy.loss, 0),
                   0, 0};
  for (int row = 0; row < rows; ++row) {
    const auto begin = size_t(row) * size_t(classes);
    const double* error = logits.error.data() + begin;
    const double most = largest(error, error + classes);
    loss.error += 2 * most;
    for (int c = 0; c < classes; ++c)
      loss.dlogits.error[begin + size_t(c)] += p[begin + size_t(c)] * std::expm1(2 * most) / rows;
    // Is the label's logit surely, or possibly, the largest?
    const int label = labels[size_t(row)];
    bool sure = true, possible = true;
    for (int c = 0; c < classes; ++c) {
      if (c == label) continue;
      const double lead = logits.value[begin + size_t(label)] - logits.value[begin + size_t(c)];
      const double either = error[label] + error[c];
      sure &= lead > either;
      possible &= lead >= -either;
    }
    loss.correct_least += sure;
    loss.correct_most += possible;
  }
  return loss;
}

Bounded softmax(const Bounded& logits, int n, int classes) {
  Bounded p = rounded(softmax(logits.value, n, classes));
  for (size_t i = 0; i < p.value.size(); ++i) {
    const double* error = logits.error.data() + i / size_t(classes) * size_t(classes);
    p.error[i] += p.value[i] * std::expm1(2 * largest(error, error + classes));
  }
  return p;
}

}  // namespace mnist::reference
