// Every operation of kernels/kernels.h once more, in double precision and in plain loops that
// follow the definition. Nothing is shared with kernels/ but the structs that carry shapes.
//
// Operations that are sums return, beside each value, the sum of the absolute values of its terms:
// rounding errors of any order of summation are proportional to that, not to the value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/shapes.h"

namespace mnist::reference {

using Tensor = std::vector<double>;

// The same numbers in double; exact.
Tensor widen(const std::vector<float>& values);

struct Sums {
  Tensor value;
  Tensor magnitude;   // sum of |term|, >= |value|
  double length = 1;  // terms of the longest sum
};

// max(value, 0); the magnitudes remain, since a small error may decide on which side a value is.
Sums relu(Sums sums);
// Value and magnitude are zero where !(gate > 0). An empty gate changes nothing.
Sums gated(Sums sums, const Tensor& gate);

// ---- normalize: row i is source row rows[i] times scale, rounded to float; zero where rows[i] < 0
struct Batch {
  std::vector<float> x;
  std::vector<uint8_t> y;
};
Batch normalize(const std::vector<uint8_t>& images, const std::vector<uint8_t>& labels,
                const std::vector<int64_t>& rows, int pixels, float scale);

// ---- convolution and dense layers: bias may be empty --------------------------------------------
Sums conv2d_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const ConvShape& shape);
Sums conv2d_backward_data(const Tensor& dy, const Tensor& w, const ConvShape& shape);
Sums conv2d_backward_filter(const Tensor& x, const Tensor& dy, const ConvShape& shape);
Sums bias_backward(const Tensor& dy, int64_t rows, int cols);
Sums dense_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const DenseShape& shape);
Sums dense_backward_data(const Tensor& dy, const Tensor& w, const DenseShape& shape);
Sums dense_backward_filter(const Tensor& x, const Tensor& dy, const DenseShape& shape);

// ---- max pooling --------------------------------------------------------------------------------
struct Pooled {
  Tensor y;
  std::vector<uint8_t> argmax;
  double gap;  // smallest distance between the two largest values of a window
};
Pooled maxpool2d_forward(const Tensor& x, const PoolShape& shape);
Sums maxpool2d_backward(const Tensor& dy, const std::vector<uint8_t>& argmax,
                        const PoolShape& shape);

// ---- softmax and cross-entropy ------------------------------------------------------------------
Sums softmax(const Tensor& logits, int n, int classes);

struct CrossEntropy {
  Sums dlogits;  // rows from `rows` on are zero
  Sums loss;     // one value: the sum over the first `rows` rows
  int64_t correct = 0;
};
// A label outside of the classes has the loss NaN.
CrossEntropy softmax_xent(const Tensor& logits, const std::vector<uint8_t>& labels, int rows, int n,
                          int classes);

// ---- Adam ---------------------------------------------------------------------------------------
// Keras' arithmetic: 1 - beta is rounded once, from the decimal number that the float stands for;
// the powers in sqrt(1-beta2^t) / (1-beta1^t), t from 1, are those of the floats, rounded to float.
// That rounding is large beside 1-beta2^t: the magnitude of the (single) result says how large.
Sums adam_bias_correction(int64_t t, const AdamParams& params);

struct Adam {
  Sums w, m, v;
  // Update number t (from 1).
  void update(const Tensor& g, double learning_rate, int64_t t, const AdamParams& params);
};
Adam make_adam(const Tensor& w, const Tensor& m, const Tensor& v);

// ---- random numbers -----------------------------------------------------------------------------
std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Whether element `index` of update `iteration` survives a dropout of that rate.
bool dropout_keeps(uint64_t index, int64_t iteration, float rate, uint64_t seed, uint32_t layer);
// Element `index` of a Glorot-uniform tensor, to the bit.
float glorot_uniform(uint64_t index, int64_t fan_in, int64_t fan_out, uint64_t seed,
                     uint32_t tensor);

}  // namespace mnist::reference
