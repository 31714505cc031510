#include "host/engine/check/check_inputs.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "host/engine/check/case_on_host.h"

namespace mnist::MNIST_TARGET {

namespace {

// The pooling's windows over the convolution's output y [n,p,q,k] whose largest value is above zero
// and above the second by more than rounding can change, in FP16 too.
std::vector<bool> clear_winners(const std::vector<float>& y, const Layer& pool, int n) {
  float scale = 0;
  for (const float value : y) scale = std::max(scale, value);
  const float margin = 4e-3f * scale;
  const Extent &in = pool.input, &out = pool.output;
  std::vector<bool> clear;
  for (int image = 0; image < n; ++image)
    for (int row = 0; row < out.h; ++row)
      for (int column = 0; column < out.w; ++column)
        for (int channel = 0; channel < out.c; ++channel) {
          float first = 0, second = 0;  // of a ReLU's results
          for (int i = 0; i < pool.window_h; ++i)
            for (int j = 0; j < pool.window_w; ++j) {
              const int h = row * pool.stride_h + i, w = column * pool.stride_w + j;
              const float value =
                  y[((size_t(image) * size_t(in.h) + size_t(h)) * size_t(in.w) + size_t(w)) *
                        size_t(in.c) +
                    size_t(channel)];
              second = std::max(second, std::min(value, first));
              first = std::max(first, value);
            }
          clear.push_back(first - second > margin);
        }
  return clear;
}

// Its convolution alone.
OpCase first_of(const OpCase& pair) {
  OpCase first = pair;
  first.model.layers.resize(1);
  return first;
}

}  // namespace

CheckInputs check_inputs(Backend& native, const OpCase& op_case, int n) {
  std::mt19937 random{unsigned(n)};
  // Whole numbers below 2^24, so distinct as floats too.
  const auto distinct = [&](size_t size) {
    std::vector<int32_t> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<float> values(size);
    std::transform(order.begin(), order.end(), values.begin(),
                   [&](int32_t rank) { return float(2 * rank + 1 - int64_t(size)) / float(size); });
    return values;
  };
  CheckInputs in;
  in.x = distinct(size_t(n) * size_t(op_case.model.input.size()));
  if (op_case.is_softmax()) {
    for (float& logit : in.x) logit *= 8;
    return in;
  }
  in.weights.assign(op_case.model.arena_size, 0);
  for (const Parameter& parameter : op_case.model.parameters) {
    const std::vector<float> values = distinct(parameter.size);
    std::copy(values.begin(), values.end(), in.weights.begin() + std::ptrdiff_t(parameter.offset));
  }
  in.dy = distinct(size_t(n) * size_t(op_case.output().size()));
  for (float& value : in.dy) value /= 128;  // a power of two: as a mean over a batch
  if (op_case.is_pair()) {
    const std::vector<float> y = CaseOnHost(native, first_of(op_case)).forward(in.x, in.weights, n);
    const std::vector<bool> clear = clear_winners(y, op_case.model.layers.back(), n);
    for (size_t i = 0; i < in.dy.size(); ++i)
      if (!clear[i]) in.dy[i] = 0;
  } else if (op_case.model.layers.back().activation == Activation::kRelu) {
    const std::vector<float> y = CaseOnHost(native, op_case).forward(in.x, in.weights, n);
    for (size_t i = 0; i < in.dy.size(); ++i)
      if (!(y[i] > 0)) in.dy[i] = 0;
  }
  return in;
}

}  // namespace mnist::MNIST_TARGET
