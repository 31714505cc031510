// What the benchmark times: the parts of a library's step are together the step, and the fused
// kernels' operands are such as they meet in training.

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <vector>

#include "host/engine/backends/backends.h"
#include "host/engine/bench/fused_case.h"
#include "host/engine/bench/library_step.h"
#include "host/engine/network.h"
#include "tests/support/catch.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr int kBatch = 16;

std::vector<float> on_host(const float* values, size_t size) {
  std::vector<float> copy(size);
  CUDA_CHECK(cudaMemcpy(copy.data(), values, size * sizeof(float), cudaMemcpyDeviceToHost));
  return copy;
}
std::vector<float> on_host(const DeviceBuffer<float>& values) {
  return on_host(values.data(), values.size());
}

MetricSums on_host(const MetricSums* sums) {
  MetricSums copy;
  CUDA_CHECK(cudaMemcpy(&copy, sums, sizeof copy, cudaMemcpyDeviceToHost));
  return copy;
}

TEST_CASE("the parts of a library's step are a step", "[bench]") {
  const auto backend = make_backend(BackendKind::kNative);
  const Model model = parse_arch(kDefaultArch);
  Stream stream;
  LibraryStep step(*backend, kBatch);
  step.conv_forward(stream);
  step.dense_forward(stream);
  step.head(stream);
  step.conv_backward(stream);
  step.update_filters(stream);
  stream.synchronize();

  const MetricSums sums = on_host(step.state().metrics.device());
  REQUIRE(sums.samples == kBatch);
  REQUIRE(sums.loss > 0.1);

  // The same by a network, from the parts' gradient of the loss.
  Network network(*backend, model, kBatch, Mode::kTraining, 0);
  const Pass pass{step.state().weights.data(), nullptr, kBatch, stream};
  DeviceBuffer<float> gradients(model.arena_size);
  CUDA_CHECK(cudaMemsetAsync(gradients.data(), 0, gradients.bytes(), stream));
  const float* logits = network.forward(step.images(), pass);
  CUDA_CHECK(cudaMemcpyAsync(network.dlogits(), step.dlogits(), kBatch * 10 * sizeof(float),
                             cudaMemcpyDeviceToDevice, stream));
  network.backward(gradients.data(), step.images(), pass);
  stream.synchronize();
  REQUIRE(std::ranges::equal(on_host(step.state().gradients), on_host(gradients)));

  // Softmax of the network's logits, where one of each row is less by one: the label's.
  const std::vector<float> z = on_host(logits, kBatch * 10), dz = on_host(step.dlogits(), z.size());
  double loss = 0;
  for (size_t row = 0; row < z.size(); row += 10) {
    double sum = 0;
    for (size_t i = row; i < row + 10; ++i) sum += std::exp(double(z[i]));
    int labels = 0;
    for (size_t i = row; i < row + 10; ++i) {
      const double share = std::exp(double(z[i])) / sum, label = share - kBatch * double(dz[i]);
      REQUIRE(std::abs(label - std::round(label)) < 1e-5);
      if (label > 0.5) loss -= std::log(share), ++labels;
    }
    REQUIRE(labels == 1);
  }
  REQUIRE(std::abs(loss - sums.loss) < 1e-5 * loss);

  // Adam saw the large filter's gradient once: the head's update; and all others.
  const std::vector<float> g = on_host(gradients), v = on_host(step.state().v);
  const Parameter& large = *model.find(5, "kernel");
  REQUIRE(large.size == 1600 * 128);
  size_t moved = 0, with_gradient = 0;
  for (size_t i = large.offset; i < large.offset + large.size; ++i) {
    moved += v[i] != 0;
    with_gradient += std::abs(g[i]) > 1e-12f;
  }
  REQUIRE(with_gradient > large.size / 4);
  REQUIRE(moved >= with_gradient);
  REQUIRE(v[0] != 0);
}

TEST_CASE("the fused kernels' operands neither saturate nor fail", "[bench][fused]") {
  Stream stream;
  const FusedCase first(kBatch, Mode::kTraining), second(kBatch, Mode::kTraining);
  const auto launch_all = [&](const FusedCase& c, bool reverse) {
    const std::function<void()> kernels[] = {
        [&] { fused_conv_forward_training(c.memory(), c.batch().pixels, kBatch, stream); },
        [&] { fused_dense_forward_training(c.memory(), c.next(), c.source(), kBatch, stream); },
        [&] { fused_head(c.memory(), c.batch().labels, kBatch, kAdam, stream); },
        [&] { fused_conv_backward(c.memory(), c.batch().pixels, kBatch, stream); }};
    constexpr size_t kCount = std::size(kernels);
    for (size_t i = 0; i < kCount; ++i) kernels[reverse ? kCount - 1 - i : i]();
    fused_update_filters(c.memory(), kBatch, kAdam, stream);
  };
  // Each but the last on what the case was filled with; and a step.
  launch_all(first, true);
  launch_all(second, false);
  stream.synchronize();
  for (const FusedCase* c : {&first, &second}) {
    const MetricSums sums = on_host(c->memory().metrics);
    CHECK(sums.saturated == 0);
    CHECK(sums.samples == kBatch);
    CHECK(sums.loss > 0.1);
    CHECK(sums.first_nonfinite == 0);
  }
  // The last one, too; and the weights stay what they are.
  const FusedCase third(kBatch, Mode::kTraining);
  const size_t weights = parse_arch(kFusedArch).arena_size;
  const std::vector<float> before = on_host(third.memory().weights, weights);
  fused_update_filters(third.memory(), kBatch, kAdam, stream);
  stream.synchronize();
  CHECK(on_host(third.memory().metrics).saturated == 0);
  for (const FusedCase* c : {&first, &second, &third})
    CHECK(std::ranges::equal(on_host(c->memory().weights, weights), before));

  // And in evaluation.
  const FusedCase evaluation(kBatch, Mode::kInference);
  fused_logits(evaluation.logits(), evaluation.memory(), kBatch, stream);
  stream.synchronize();
  const std::vector<float> logits = on_host(evaluation.logits(), kBatch * 10);
  CHECK(std::all_of(logits.begin(), logits.end(), [](float z) { return std::abs(z) < 100; }));
  CHECK(std::any_of(logits.begin(), logits.end(), [](float z) { return std::abs(z) > 0.01f; }));
}

}  // namespace

}  // namespace mnist::MNIST_TARGET
