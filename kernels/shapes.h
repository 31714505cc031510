// Shapes of the operations. Every tensor is row-major: activations NHWC, filters HWIO ([R,S,C,K]),
// dense weights [in,out], logits [N,classes]. Plain C++: shared by kernels, engine and tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mnist {

using Half = uint16_t;  // the bits of an IEEE 754 binary16

// A 2-d convolution: x [N,H,W,C], w [R,S,C,K], y [N,P,Q,K]. Padding is counted before the first
// row and column; what follows the last one results from P and Q. Padded values are zero.
struct ConvShape {
  int n, h, w, c;
  int k, r, s;
  int stride_h, stride_w;
  int pad_h, pad_w;
  int p, q;

  constexpr size_t input_size() const { return size_t(n) * h * w * c; }
  constexpr size_t filter_size() const { return size_t(r) * s * c * k; }
  constexpr size_t output_size() const { return size_t(n) * p * q * k; }
};

// Max pooling: x [N,H,W,C], y [N,P,Q,C]. Padded positions never win. At most 256 positions a
// window, so that the index of the maximum fits one byte.
struct PoolShape {
  int n, h, w, c;
  int window_h, window_w;
  int stride_h, stride_w;
  int pad_h, pad_w;
  int p, q;

  constexpr size_t input_size() const { return size_t(n) * h * w * c; }
  constexpr size_t output_size() const { return size_t(n) * p * q * c; }
};

// A fully connected layer: x [N,in], w [in,out], y [N,out].
struct DenseShape {
  int n, in, out;

  constexpr size_t input_size() const { return size_t(n) * in; }
  constexpr size_t filter_size() const { return size_t(in) * out; }
  constexpr size_t output_size() const { return size_t(n) * out; }
};

// Where a batch comes from: `batch` rows of `pixels` bytes out of a source of `source_rows` rows.
// A pixel value u becomes u * scale.
struct BatchShape {
  int batch;
  int pixels;
  int source_rows;
  float scale;
  int ahead = 0;  // batches after the one that StepState is at
};

struct AdamParams {
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float eps = 1e-7f;
};

// The scalars of a training step that change while a captured graph is replayed; they live in
// device memory, since a graph freezes the values of its kernels' arguments. What one
// thread of a kernel writes here no other thread of it reads: softmax_xent (fused: dense_forward)
// sets up the next update for adam (fused: head, update_filters), which counts it (`iteration`).
struct StepState {
  int64_t iteration;    // Adam updates done since the weights were initialised
  int64_t epoch_begin;  // what `iteration` was before the first batch of the current epoch
  int32_t samples;      // training samples in an epoch
  float learning_rate;  // Keras' `learning_rate`
  float beta1, beta2;   // AdamParams'

  double beta1_power, beta2_power;  // beta^t of update t, a product of t factors; t = 0: 1
  float bias_correction;            // sqrt(1-beta2^t) / (1-beta1^t)
};

// First sample of the current batch, or of one `ahead` of it, within its epoch, and how many of
// `batch` rows are real: the last batch of an epoch may be short, those after it have none, and the
// rows after the end are zero.
constexpr int64_t batch_begin(const StepState& s, int batch, int ahead = 0) {
  return (s.iteration - s.epoch_begin + ahead) * batch;
}
constexpr int batch_rows(const StepState& s, int batch, int ahead = 0) {
  const int64_t left = s.samples - batch_begin(s, batch, ahead);
  return left < 0 ? 0 : left < batch ? int(left) : batch;
}

// After every kReportBatches batches of an epoch the sums are also written where the host reads
// them: report r, after batch (r + 1) * kReportBatches, is at reports[r % kReports].
inline constexpr int kReportBatches = 8, kReports = 4;

// Sums over the samples seen since the last reset, kept on the device.
struct MetricSums {
  double loss;      // sum of the samples' cross-entropies
  int64_t correct;  // samples whose largest logit is the label's
  int64_t samples;
  int64_t first_nonfinite;  // the first batch (from 1) whose loss is not finite; 0: none
  int64_t batches;
  uint32_t ticket;      // counts the blocks of the running launch; 0 between launches
  uint32_t unused = 0;  // where padding would be, which a copy need not keep
  MetricSums* reports;  // [kReports] in pinned memory; null: none are wanted
  // Of the FP16 step: numbers that became 65504 when they were rounded. By atomicAdd alone.
  unsigned long long saturated = 0;
};

}  // namespace mnist
