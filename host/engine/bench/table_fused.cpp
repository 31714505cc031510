// The rows of `bench --math fp16`: the kernels of a training step on 128 images, the packing of the
// weights, and the kernels of evaluation on its 1024. In a repeat a kernel follows itself, and may
// overlap the one before up to its griddepcontrol_wait(), as in a step.

#include <memory>
#include <string>
#include <utility>

#include "host/engine/bench/fused_case.h"
#include "host/engine/bench/tables.h"

namespace mnist::MNIST_TARGET {

namespace {

using namespace fused;

constexpr int kEvaluationBatch = 1024;  // as in evaluator.cpp
constexpr size_t kDense1 = size_t{kFlat} * kHidden, kDense2 = size_t{kHidden} * kClasses;
constexpr size_t kFilter1 = size_t{kTaps} * kChannels1, kFilter2 = kFilter1 * kChannels2;
constexpr size_t kConvs = kFilter1 + kChannels1 + kFilter2 + kChannels2;
// All parameters but dense1's filter, which fused_head updates.
constexpr size_t kOthers = kConvs + kHidden + kDense2 + kClasses;
// Adam reads and writes weights and moments, and writes the weights in FP16 too.
constexpr double kAdamBytes = 6 * sizeof(float) + sizeof(Half);

// Floating-point operations for n images. A backward pass through a pooling counts only each
// window's maximum, as in table_native.cpp.
struct Flops {
  explicit Flops(double n)
      : conv_forward(2 * n * (4 * kPositions * double(kFilter1) + 4 * kWindows * double(kFilter2))),
        conv_backward(2 * n * (kPositions * double(kFilter1) + 2 * kWindows * double(kFilter2))),
        dense1(2 * n * double(kDense1)),
        dense2(2 * n * double(kDense2)) {}
  const double conv_forward, conv_backward, dense1, dense2;
};

// What each image's activations take, in bytes.
constexpr double kA1 = kPositions * kChannels1 * sizeof(Half), kCode1 = kPositions * kChannels1;
constexpr double kA2 = kFlat * sizeof(Half), kCode2 = kFlat;
constexpr double kH = kHidden * sizeof(Half), kImage = kPixels + 1;
constexpr double kConv2Dw = kFilter2 * sizeof(Half), kSmall = kSmallSums * sizeof(float);
constexpr double kConvHalves = kConvs * sizeof(Half), kHead = kHeadSums * sizeof(float);

using LaunchOnCase = void (*)(const FusedCase&, cudaStream_t);

class Table {
 public:
  explicit Table(int images, Mode mode) : images_(images), mode_(mode) {}

  void add(const std::string& name, const std::string& shape, double flops, double bytes,
           LaunchOnCase launch) {
    const auto prepare = [images = images_, mode = mode_, bytes, launch](Operands& o) -> Launch {
      o.moves(bytes);
      const auto fused_case = std::make_shared<const FusedCase>(images, mode);
      return [=](cudaStream_t stream) { launch(*fused_case, stream); };
    };
    BenchRow row{name, shape, "native", flops, Math::kFp16};
    rows_.push_back({std::move(row), prepare});
  }

  std::vector<TableRow> take() { return std::move(rows_); }

 private:
  const int images_;
  const Mode mode_;
  std::vector<TableRow> rows_;
};

std::string by(int first, const std::string& rest) {
  return std::to_string(first) + "x" + rest;
}

}  // namespace

std::vector<TableRow> fused_step_table() {
  constexpr int kBatch = kStepBatch;
  constexpr double n = kBatch;
  const Flops flops(n);
  Table table(kBatch, Mode::kTraining);
  table.add("fused_conv_forward_training", by(kBatch, "28x28x1"), flops.conv_forward,
            n * (kPixels + kA1 + kCode1 + kA2 + kCode2) + kConvHalves,
            [](const FusedCase& c, cudaStream_t stream) {
              fused_conv_forward_training(c.memory(), c.batch().pixels, kBatch, stream);
            });
  // Beside the product it gathers the next batch.
  table.add("fused_dense_forward_training", by(kBatch, "1600x128"), flops.dense1,
            n * (kA2 + kH + 2 * kImage) + kDense1 * sizeof(Half),
            [](const FusedCase& c, cudaStream_t stream) {
              fused_dense_forward_training(c.memory(), c.next(), c.source(), kBatch, stream);
            });
  table.add("fused_head", by(kBatch, "1600x128x10"), 2 * flops.dense1 + 3 * flops.dense2,
            n * (2 * kA2 + kCode2 + kH) + kDense1 * kAdamBytes + kHead,
            [](const FusedCase& c, cudaStream_t stream) {
              fused_head(c.memory(), c.batch().labels, kBatch, kAdam, stream);
            });
  table.add("fused_conv_backward", by(kBatch, "28x28x1"), flops.conv_backward,
            n * (kPixels + kA1 + kCode1 + kA2 + kCode2 + kConv2Dw + kSmall) + kConvHalves,
            [](const FusedCase& c, cudaStream_t stream) {
              fused_conv_backward(c.memory(), c.batch().pixels, kBatch, stream);
            });
  table.add("fused_update_filters", by(kBatch, std::to_string(kOthers)), 0,
            n * (kConv2Dw + kSmall) + kHead + kOthers * kAdamBytes,
            [](const FusedCase& c, cudaStream_t stream) {
              fused_update_filters(c.memory(), kBatch, kAdam, stream);
            });
  return table.take();
}

std::vector<TableRow> fused_table() {
  std::vector<TableRow> rows = fused_step_table();
  constexpr int kBatch = kEvaluationBatch;
  constexpr double n = kBatch;
  const Flops flops(n);
  Table table(kBatch, Mode::kInference);
  table.add(
      "fused_pack_weights", std::to_string(kDense1 + kOthers), 0,
      (kDense1 + kOthers) * double(sizeof(float) + sizeof(Half)),
      [](const FusedCase& c, cudaStream_t stream) { fused_pack_weights(c.memory(), stream); });
  table.add("fused_conv_forward", by(kBatch, "28x28x1"), flops.conv_forward,
            n * (kPixels + kA2) + kConvHalves, [](const FusedCase& c, cudaStream_t stream) {
              fused_conv_forward(c.memory(), c.batch().pixels, kBatch, stream);
            });
  table.add("fused_dense_forward", by(kBatch, "1600x128"), flops.dense1,
            n * (kA2 + kH) + kDense1 * sizeof(Half), [](const FusedCase& c, cudaStream_t stream) {
              fused_dense_forward(c.memory(), kBatch, stream);
            });
  table.add("fused_logits", by(kBatch, "128x10"), flops.dense2,
            n * (kH + kClasses * sizeof(float)) + kDense2 * sizeof(Half),
            [](const FusedCase& c, cudaStream_t stream) {
              fused_logits(c.logits(), c.memory(), kBatch, stream);
            });
  for (TableRow& row : table.take()) rows.push_back(std::move(row));
  return rows;
}

}  // namespace mnist::MNIST_TARGET
