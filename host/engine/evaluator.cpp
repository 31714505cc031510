#include "host/engine/evaluator.h"

#include <algorithm>

#include "host/engine/backends/layer_shapes.h"
#include "host/engine/metric_sums.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr int kBatch = 1024;  // few launches, each wide enough to fill a GPU

}  // namespace

Evaluator::Evaluator(Backend& backend, const Model& model, bool eager)
    : backend_(backend),
      model_(model),
      eager_(eager),
      pixels_(model.input.size()),
      network_(backend, model, kBatch, Mode::kInference, 0),
      input_(size_t(kBatch * pixels_)),
      loss_workspace_(softmax_xent_workspace(kBatch)) {}

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

const float* Evaluator::logits(const float* weights, const uint8_t* images, int n,
                               cudaStream_t compute) {
  {
    const NvtxRange phase("data");
    normalize(input_.data(), nullptr, images, nullptr, nullptr, nullptr, batch_shape(model_, n, n),
              compute);
  }
  return network_.forward(input_.data(), {weights, nullptr, n, compute});
}

Metrics Evaluator::evaluate(const float* weights, cudaStream_t compute) {
  const NvtxRange range("validation");
  // As in training, the first one loads the kernels, and is no graph.
  if (eager_ || !has_run_) {
    enqueue(weights, compute);
  } else {
    if (!graph_) {
      const NvtxRange capture("capture");
      graph_ = Graph::capture(compute, [&] { enqueue(weights, compute); });
    }
    graph_.launch(compute);
  }
  has_run_ = true;
  CUDA_CHECK(cudaStreamSynchronize(compute));
  return to_metrics(sums_.host());
}

void Evaluator::enqueue(const float* weights, cudaStream_t compute) {
  sums_.clear(compute);
  for (int64_t first = 0; first < count_; first += kBatch) {
    const int n = int(std::min<int64_t>(kBatch, count_ - first));
    const float* values = logits(weights, images_.data() + first * pixels_, n, compute);
    const NvtxRange phase("loss");
    softmax_xent(nullptr, sums_.device(), loss_workspace_.data(), values, labels_.data() + first,
                 nullptr, n, model_.classes(), compute);
  }
  sums_.download(compute);
}

std::vector<float> Evaluator::predict(const float* weights, const uint8_t* images, int64_t count,
                                      cudaStream_t compute) {
  const auto classes = size_t(model_.classes());
  std::vector<float> probabilities(size_t(count) * classes);
  const DeviceBuffer<uint8_t> batch(size_t(kBatch * pixels_));
  const DeviceBuffer<float> result(size_t{kBatch} * classes);
  for (int64_t first = 0; first < count; first += kBatch) {
    const int n = int(std::min<int64_t>(kBatch, count - first));
    CUDA_CHECK(cudaMemcpyAsync(batch.data(), images + first * pixels_, size_t(n * pixels_),
                               cudaMemcpyHostToDevice, compute));
    backend_.softmax(result.data(), logits(weights, batch.data(), n, compute), n, int(classes),
                     compute);
    CUDA_CHECK(cudaMemcpyAsync(&probabilities[size_t(first) * classes], result.data(),
                               size_t(n) * classes * sizeof(float), cudaMemcpyDeviceToHost,
                               compute));
  }
  CUDA_CHECK(cudaStreamSynchronize(compute));
  return probabilities;
}

}  // namespace mnist::MNIST_TARGET
