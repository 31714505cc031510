// Double-precision references: the definitions, as loops. See reference.h.
#include "tests/support/reference.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace mnist::reference {
namespace {

Sums make_sums(size_t size, double length) {
  return {Tensor(size, 0.0), Tensor(size, 0.0), length};
}

void add(Sums& sums, size_t i, double term) {
  sums.value[i] += term;
  sums.magnitude[i] += std::fabs(term);
}

// Calls visit(index in x, index in w, index in y) for every product of a convolution.
template <typename Visit>
void for_each_product(const ConvShape& shape, Visit visit) {
  size_t y = 0;
  for (int n = 0; n < shape.n; ++n)
    for (int p = 0; p < shape.p; ++p)
      for (int q = 0; q < shape.q; ++q)
        for (int k = 0; k < shape.k; ++k, ++y)
          for (int r = 0; r < shape.r; ++r)
            for (int s = 0; s < shape.s; ++s) {
              const int h = p * shape.stride_h - shape.pad_h + r;
              const int w = q * shape.stride_w - shape.pad_w + s;
              if (h < 0 || h >= shape.h || w < 0 || w >= shape.w) continue;
              for (int c = 0; c < shape.c; ++c)
                visit(((size_t(n) * shape.h + h) * shape.w + w) * shape.c + c,
                      ((size_t(r) * shape.s + s) * shape.c + c) * shape.k + k, y);
            }
}

// The same for a dense layer.
template <typename Visit>
void for_each_product(const DenseShape& shape, Visit visit) {
  for (int n = 0; n < shape.n; ++n)
    for (int out = 0; out < shape.out; ++out)
      for (int in = 0; in < shape.in; ++in)
        visit(size_t(n) * shape.in + in, size_t(in) * shape.out + out, size_t(n) * shape.out + out);
}

template <typename Shape>
Sums forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Shape& shape,
             double length) {
  Sums sums = make_sums(shape.output_size(), length + 1);
  if (!bias.empty())
    for (size_t i = 0; i < sums.value.size(); ++i) add(sums, i, bias[i % bias.size()]);
  for_each_product(shape, [&](size_t ix, size_t iw, size_t iy) { add(sums, iy, x[ix] * w[iw]); });
  return sums;
}

template <typename Shape>
Sums backward_data(const Tensor& dy, const Tensor& w, const Shape& shape, double length) {
  Sums sums = make_sums(shape.input_size(), length);
  for_each_product(shape, [&](size_t ix, size_t iw, size_t iy) { add(sums, ix, dy[iy] * w[iw]); });
  return sums;
}

template <typename Shape>
Sums backward_filter(const Tensor& x, const Tensor& dy, const Shape& shape, double length) {
  Sums sums = make_sums(shape.filter_size(), length);
  for_each_product(shape, [&](size_t ix, size_t iw, size_t iy) { add(sums, iw, x[ix] * dy[iy]); });
  return sums;
}

// The largest logit of a row and the sum of exp(logit - largest).
struct Row {
  double largest;
  double sum;
};

Row reduce_row(const double* logits, int classes) {
  const double largest = *std::max_element(logits, logits + classes);
  double sum = 0;
  for (int i = 0; i < classes; ++i) sum += std::exp(logits[i] - largest);
  return {largest, sum};
}

}  // namespace

Tensor widen(const std::vector<float>& values) {
  return Tensor(values.begin(), values.end());
}

Sums relu(Sums sums) {
  for (double& value : sums.value) value = std::isnan(value) ? value : std::max(value, 0.0);
  return sums;
}

Sums gated(Sums sums, const Tensor& gate) {
  for (size_t i = 0; i < gate.size(); ++i)
    if (!(gate[i] > 0)) sums.value[i] = sums.magnitude[i] = 0;
  return sums;
}

Batch normalize(const std::vector<uint8_t>& images, const std::vector<uint8_t>& labels,
                const std::vector<int64_t>& rows, int pixels, float scale) {
  Batch batch;
  for (int64_t row : rows) {
    for (int pixel = 0; pixel < pixels; ++pixel)
      batch.x.push_back(
          row < 0 ? 0.f : float(double(images[size_t(row * pixels + pixel)]) * double(scale)));
    batch.y.push_back(row < 0 ? uint8_t{0} : labels[size_t(row)]);
  }
  return batch;
}

Sums conv2d_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const ConvShape& shape) {
  return forward(x, w, bias, shape, double(shape.r) * shape.s * shape.c);
}

Sums conv2d_backward_data(const Tensor& dy, const Tensor& w, const ConvShape& shape) {
  return backward_data(dy, w, shape, double(shape.r) * shape.s * shape.k);
}

Sums conv2d_backward_filter(const Tensor& x, const Tensor& dy, const ConvShape& shape) {
  return backward_filter(x, dy, shape, double(shape.n) * shape.p * shape.q);
}

Sums bias_backward(const Tensor& dy, int64_t rows, int cols) {
  Sums sums = make_sums(size_t(cols), double(rows));
  for (size_t i = 0; i < dy.size(); ++i) add(sums, i % size_t(cols), dy[i]);
  return sums;
}

Sums dense_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const DenseShape& shape) {
  return forward(x, w, bias, shape, shape.in);
}

Sums dense_backward_data(const Tensor& dy, const Tensor& w, const DenseShape& shape) {
  return backward_data(dy, w, shape, shape.out);
}

Sums dense_backward_filter(const Tensor& x, const Tensor& dy, const DenseShape& shape) {
  return backward_filter(x, dy, shape, shape.n);
}

Pooled maxpool2d_forward(const Tensor& x, const PoolShape& shape) {
  Pooled pooled{{}, {}, std::numeric_limits<double>::infinity()};
  for (int n = 0; n < shape.n; ++n)
    for (int p = 0; p < shape.p; ++p)
      for (int q = 0; q < shape.q; ++q)
        for (int c = 0; c < shape.c; ++c) {
          int winner = -1;
          double largest = 0, second = -std::numeric_limits<double>::infinity();
          for (int place = 0; place < shape.window_h * shape.window_w; ++place) {
            const int h = p * shape.stride_h - shape.pad_h + place / shape.window_w;
            const int w = q * shape.stride_w - shape.pad_w + place % shape.window_w;
            if (h < 0 || h >= shape.h || w < 0 || w >= shape.w) continue;
            const double value = x[((size_t(n) * shape.h + h) * shape.w + w) * shape.c + c];
            if (winner < 0 || value > largest) {
              if (winner >= 0) second = largest;
              largest = value;
              winner = place;
            } else {
              second = std::max(second, value);
            }
          }
          pooled.y.push_back(largest);
          pooled.argmax.push_back(uint8_t(winner));
          pooled.gap = std::min(pooled.gap, largest - second);
        }
  return pooled;
}

Sums maxpool2d_backward(const Tensor& dy, const std::vector<uint8_t>& argmax,
                        const PoolShape& shape) {
  Sums sums = make_sums(shape.input_size(), double(shape.window_h) * shape.window_w);
  size_t y = 0;
  for (int n = 0; n < shape.n; ++n)
    for (int p = 0; p < shape.p; ++p)
      for (int q = 0; q < shape.q; ++q)
        for (int c = 0; c < shape.c; ++c, ++y) {
          const int h = p * shape.stride_h - shape.pad_h + argmax[y] / shape.window_w;
          const int w = q * shape.stride_w - shape.pad_w + argmax[y] % shape.window_w;
          add(sums, ((size_t(n) * shape.h + h) * shape.w + w) * shape.c + c, dy[y]);
        }
  return sums;
}

// An error of one part in 2^24 in the exponent -d changes exp(-d) by d parts: hence p (1 + d).
Sums softmax(const Tensor& logits, int n, int classes) {
  Sums sums = make_sums(logits.size(), classes);
  for (size_t i = 0; i < size_t(n) * size_t(classes); ++i) {
    const double* row_logits = logits.data() + i / size_t(classes) * size_t(classes);
    const Row row = reduce_row(row_logits, classes);
    const double distance = row.largest - logits[i];
    sums.value[i] = std::exp(-distance) / row.sum;
    sums.magnitude[i] = sums.value[i] * (1 + distance);
  }
  return sums;
}

CrossEntropy softmax_xent(const Tensor& logits, const std::vector<uint8_t>& labels, int rows, int n,
                          int classes) {
  CrossEntropy result;
  result.dlogits = softmax(logits, n, classes);
  result.loss = make_sums(1, double(classes) + rows);
  for (int i = 0; i < n; ++i) {
    double* value = result.dlogits.value.data() + size_t(i) * size_t(classes);
    double* magnitude = result.dlogits.magnitude.data() + size_t(i) * size_t(classes);
    if (i >= rows) {
      std::fill_n(value, classes, 0.0);
      std::fill_n(magnitude, classes, 0.0);
      continue;
    }
    const double* z = logits.data() + size_t(i) * size_t(classes);
    const Row row = reduce_row(z, classes);
    const int label = labels[size_t(i)];
    if (label < classes) {
      value[label] -= 1;
      magnitude[label] += 1;
      const double log_sum = std::log(row.sum);
      result.loss.value[0] += log_sum + (row.largest - z[label]);
      result.loss.magnitude[0] += 1 + log_sum + (row.largest - z[label]);
      result.correct += std::max_element(z, z + classes) - z == label;
    } else {
      result.loss.value[0] = std::numeric_limits<double>::quiet_NaN();
    }
    for (int c = 0; c < classes; ++c) {
      value[c] /= rows;
      magnitude[c] /= rows;
    }
  }
  return result;
}

namespace {

// The shortest decimal number that is read as this float: 0.9, not 0.89999998.
double decimal(float value) {
  char digits[32] = {};
  std::to_chars(digits, digits + sizeof(digits) - 1, value);
  return std::strtod(digits, nullptr);
}

}  // namespace

Sums adam_bias_correction(int64_t t, const AdamParams& params) {
  const double power1 = std::pow(double(params.beta1), double(t));
  const double power2 = std::pow(double(params.beta2), double(t));
  const double value = std::sqrt(1 - power2) / (1 - power1);
  const double condition = 1 + power1 / (1 - power1) + power2 / (1 - power2) / 2;
  return {{value}, {value * condition}, 1};
}

Adam make_adam(const Tensor& w, const Tensor& m, const Tensor& v) {
  const auto sums = [](const Tensor& values) {
    Tensor magnitudes;
    for (double value : values) magnitudes.push_back(std::fabs(value));
    return Sums{values, magnitudes, 1};
  };
  return {sums(w), sums(m), sums(v)};
}

void Adam::update(const Tensor& g, double learning_rate, int64_t t, const AdamParams& params) {
  const Sums correction = adam_bias_correction(t, params);
  const double one_minus_beta1 = 1 - decimal(params.beta1);
  const double one_minus_beta2 = 1 - decimal(params.beta2);
  for (size_t i = 0; i < g.size(); ++i) {
    m.value[i] += (g[i] - m.value[i]) * one_minus_beta1;
    v.value[i] += (g[i] * g[i] - v.value[i]) * one_minus_beta2;
    const double scale = learning_rate / (std::sqrt(v.value[i]) + double(params.eps));
    w.value[i] -= scale * correction.value[0] * m.value[i];
    // Both moments are means of old and new, so their terms are as large as those.
    m.magnitude[i] += (std::fabs(g[i]) - m.magnitude[i]) * one_minus_beta1;
    v.magnitude[i] = v.value[i];
    w.magnitude[i] += scale * correction.magnitude[0] * m.magnitude[i];
  }
  for (Sums* sums : {&w, &m, &v}) sums->length += 1;
}

// One round multiplies words 0 and 2 by constants; each product's halves, the high one mixed with
// the word in between and a key word, become the next words, and the key walks on by a Weyl
// sequence.
std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) {
  constexpr std::array<uint64_t, 2> multiplier = {0xD2511F53, 0xCD9E8D57};
  constexpr std::array<uint32_t, 2> weyl = {0x9E3779B9, 0xBB67AE85};
  for (int round = 0; round < 10; ++round) {
    std::array<uint32_t, 4> next{};
    for (size_t half = 0; half < 2; ++half) {
      const size_t other = 1 - half;
      const uint64_t product = multiplier[other] * counter[2 * other];
      next[2 * half] = uint32_t(product >> 32) ^ counter[2 * half + 1] ^ key[half];
      next[2 * half + 1] = uint32_t(product);
    }
    counter = next;
    for (size_t half = 0; half < 2; ++half) key[half] += weyl[half];
  }
  return counter;
}

namespace {

// The first word for a 64-bit counter pair; the stream goes into the key's high word.
uint32_t random_word(uint64_t low, uint64_t high, uint64_t seed, uint32_t stream) {
  return philox4x32_10({uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)},
                       {uint32_t(seed), uint32_t(seed >> 32) ^ stream})[0];
}

}  // namespace

bool dropout_keeps(uint64_t index, int64_t iteration, float rate, uint64_t seed, uint32_t layer) {
  return double(random_word(index, uint64_t(iteration), seed, layer) >> 8) / 16777216 >=
         double(rate);
}

float glorot_uniform(uint64_t index, int64_t fan_in, int64_t fan_out, uint64_t seed,
                     uint32_t tensor) {
  const double limit = float(std::sqrt(6.0 / double(fan_in + fan_out)));
  const double uniform = double(random_word(index, 0, seed, tensor) >> 8) / 16777216;
  return float((2 * uniform - 1) * limit);  // one rounding: the product of two floats is a double
}

}  // namespace mnist::reference
