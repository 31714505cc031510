#include "host/engine/evaluator.h"

#include <algorithm>

#include "host/engine/fused_buffers.h"
#include "host/engine/fused_forward.h"
#include "host/engine/metric_sums.h"
#include "host/engine/op_forward.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr int kBatch = 1024;  // few launches, each wide enough to fill a GPU

std::unique_ptr<ForwardPass> make_pass(Backend& backend, const Model& model,
                                       const EngineConfig& config, const TrainingState& state,
                                       MetricSums* metrics, cudaStream_t compute) {
  if (uses_fused_kernels(config))
    return std::make_unique<FusedForward>(model, state, metrics, kBatch, compute);
  return std::make_unique<OpForward>(backend, model, state, kBatch);
}

}  // namespace

Evaluator::Evaluator(Backend& backend, const Model& model, const EngineConfig& config,
                     const TrainingState& state, cudaStream_t compute)
    : backend_(backend),
      model_(model),
      eager_(config.eager),
      pixels_(model.input.size()),
      pass_(make_pass(backend, model, config, state, sums_.device(), compute)),
      loss_workspace_(softmax_xent_workspace(kBatch)) {
  sums_.clear(compute);  // predict() adds to them, too
}

void Evaluator::set_samples(const Samples& samples, cudaStream_t compute) {
  count_ = samples.count;
  images_ = DeviceBuffer<uint8_t>(size_t(samples.count * pixels_));
  labels_ = DeviceBuffer<uint8_t>(size_t(samples.count));
  has_run_ = false;
  graph_ = Graph();
  CUDA_CHECK(cudaMemcpyAsync(images_.data(), samples.images, images_.bytes(),
                             cudaMemcpyHostToDevice, compute));
  CUDA_CHECK(cudaMemcpyAsync(labels_.data(), samples.labels, labels_.bytes(),
                             cudaMemcpyHostToDevice, compute));
}

Metrics Evaluator::evaluate(cudaStream_t compute) {
  const NvtxRange range("validation");
  // As in training, the first one loads the kernels, and is no graph.
  if (eager_ || !has_run_) {
    enqueue(compute);
  } else {
    if (!graph_) {
      const NvtxRange capture("capture");
      graph_ = Graph::capture(compute, [&] { enqueue(compute); });
    }
    graph_.launch(compute);
  }
  has_run_ = true;
  CUDA_CHECK(cudaStreamSynchronize(compute));
  return to_metrics(sums_.host());
}

void Evaluator::enqueue(cudaStream_t compute) {
  sums_.clear(compute);
  pass_->load_weights(compute);
  for (int64_t first = 0; first < count_; first += kBatch) {
    const int n = int(std::min<int64_t>(kBatch, count_ - first));
    const float* logits = pass_->logits(images_.data() + first * pixels_, n, compute);
    const NvtxRange phase("loss");
    softmax_xent(nullptr, sums_.device(), loss_workspace_.data(), logits, labels_.data() + first,
                 nullptr, n, model_.classes(), compute);
  }
  sums_.download(compute);
}

std::vector<float> Evaluator::predict(const uint8_t* images, int64_t count, cudaStream_t compute) {
  const auto classes = size_t(model_.classes());
  std::vector<float> probabilities(size_t(count) * classes);
  const DeviceBuffer<uint8_t> batch(size_t(kBatch * pixels_));
  const DeviceBuffer<float> result(size_t{kBatch} * classes);
  pass_->load_weights(compute);
  for (int64_t first = 0; first < count; first += kBatch) {
    const int n = int(std::min<int64_t>(kBatch, count - first));
    CUDA_CHECK(cudaMemcpyAsync(batch.data(), images + first * pixels_, size_t(n * pixels_),
                               cudaMemcpyHostToDevice, compute));
    backend_.softmax(result.data(), pass_->logits(batch.data(), n, compute), n, int(classes),
                     compute);
    CUDA_CHECK(cudaMemcpyAsync(&probabilities[size_t(first) * classes], result.data(),
                               size_t(n) * classes * sizeof(float), cudaMemcpyDeviceToHost,
                               compute));
  }
  CUDA_CHECK(cudaStreamSynchronize(compute));
  return probabilities;
}

}  // namespace mnist::MNIST_TARGET
