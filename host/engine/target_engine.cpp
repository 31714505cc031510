// The training engine: arenas, the captured step, the epoch loop, validation, prediction.

#include <cuda_profiler_api.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "host/engine/backends/backend.h"
#include "host/engine/batch_stream.h"
#include "host/engine/device/device.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/network.h"
#include "host/engine/target_api.h"
#include "host/error.h"
#include "host/nvtx.h"
#include "kernels/kernels.h"
#include "kernels/philox.h"

#ifdef MNIST_HAVE_CUDNN
#include "host/engine/backends/cudnn/backend.h"
#endif

namespace mnist::MNIST_TARGET {

namespace {

constexpr float kPixelScale = 1.0f / 255.0f;
constexpr int kEvaluationBatch = 1024;  // few launches, each wide enough to fill a GPU
constexpr AdamParams kAdam{};

Metrics to_metrics(const MetricSums& sums) {
  return {.loss_sum = sums.loss,
          .correct = sums.correct,
          .samples = sums.samples,
          .batches = sums.batches,
          .first_nonfinite = sums.first_nonfinite};
}

MetricSums to_sums(const Metrics& metrics) {
  return {.loss = metrics.loss_sum,
          .correct = metrics.correct,
          .samples = metrics.samples,
          .first_nonfinite = metrics.first_nonfinite,
          .batches = metrics.batches,
          .ticket = 0};
}

std::unique_ptr<Backend> make_backend(BackendKind kind) {
#ifdef MNIST_HAVE_CUDNN
  if (kind == BackendKind::kCudnn) return make_cudnn_backend();
#endif
  if (kind != BackendKind::kNative) throw Error(ExitCode::kInternal, "there is no such backend");
  return make_native_backend();
}

// One struct on the device and its mirror in pinned memory.
template <typename T>
class Mirrored {
 public:
  T& host() { return host_[0]; }
  T* device() const { return device_.data(); }
  void upload(cudaStream_t stream) {
    CUDA_CHECK(
        cudaMemcpyAsync(device_.data(), host_.data(), sizeof(T), cudaMemcpyHostToDevice, stream));
  }
  void download(cudaStream_t stream) {
    CUDA_CHECK(
        cudaMemcpyAsync(host_.data(), device_.data(), sizeof(T), cudaMemcpyDeviceToHost, stream));
  }

 private:
  PinnedBuffer<T> host_{1};
  DeviceBuffer<T> device_{1};
};

}  // namespace

class TargetEngine final : public Engine {
 public:
  TargetEngine(const Model& model, const EngineConfig& config);

  const DeviceInfo& device() const override { return device_; }
  void initialize() override;
  void load(const OptimizerState& state) override;
  OptimizerState save() override;
  void set_training_set(const Samples& samples) override;
  void set_validation_set(const Samples& samples) override;
  Metrics train_epoch(std::span<const int32_t> order, int64_t first_batch, const Metrics& sums,
                      const Progress& progress) override;
  size_t step_nodes() const override { return step_.nodes(); }
  Metrics evaluate() override;
  std::vector<float> predict(const uint8_t* images, int64_t count) override;

 private:
  void enqueue_step();
  void profile();
  void set_state(int64_t iteration, float learning_rate);
  Network& training();
  Network& inference();

  const Model model_;
  const EngineConfig config_;
  const DeviceInfo device_;
  const int pixels_;
  const std::unique_ptr<Backend> backend_;
  Stream compute_;

  // Arenas: parameters, their gradients, Adam's moments.
  DeviceBuffer<float> weights_, gradients_, m_, v_;
  Mirrored<StepState> state_;
  Mirrored<MetricSums> metrics_;

  // Made when first used: predicting needs no training buffers, and the reverse.
  std::unique_ptr<Network> training_, inference_;
  DeviceBuffer<uint8_t> batch_labels_;
  DeviceBuffer<float> loss_workspace_;

  Samples training_samples_;
  std::unique_ptr<BatchStream> stream_;                      // --data stream
  DeviceBuffer<uint8_t> resident_images_, resident_labels_;  // --data resident
  DeviceBuffer<int32_t> permutation_;
  Graph step_;
  int64_t steps_run_ = 0;
  bool profiling_ = false;

  int64_t validation_count_ = 0;
  DeviceBuffer<uint8_t> validation_images_, validation_labels_;
};

TargetEngine::TargetEngine(const Model& model, const EngineConfig& config)
    : model_(model),
      config_(config),
      device_(device_info()),
      pixels_(int(model.input.size())),
      backend_(make_backend(config.backend)),
      weights_(model.arena_size),
      gradients_(model.arena_size),
      m_(model.arena_size),
      v_(model.arena_size) {
  // The gaps between tensors stay zero through every update.
  for (const auto* arena : {&weights_, &gradients_, &m_, &v_})
    CUDA_CHECK(cudaMemsetAsync(arena->data(), 0, arena->bytes(), compute_));
  set_state(0, config.learning_rate);
}

Network& TargetEngine::training() {
  if (!training_) {
    training_ = std::make_unique<Network>(*backend_, model_, config_.batch_size, Mode::kTraining,
                                          config_.seed);
    batch_labels_ = DeviceBuffer<uint8_t>(size_t(config_.batch_size));
    loss_workspace_ =
        DeviceBuffer<float>(softmax_xent_workspace(std::max(config_.batch_size, kEvaluationBatch)));
    if (config_.backend != BackendKind::kNative) {
      const NvtxRange range("warm-up");
      // Libraries load code and allocate memory when first called, which a stream that records a
      // graph does not allow. What this computes is overwritten by the first step.
      training_->forward(weights_.data(), state_.device(), config_.batch_size, compute_);
      training_->backward(gradients_.data(), weights_.data(), state_.device(), config_.batch_size,
                          compute_);
    }
  }
  return *training_;
}

Network& TargetEngine::inference() {
  if (!inference_) {
    inference_ = std::make_unique<Network>(*backend_, model_, kEvaluationBatch, Mode::kInference,
                                           config_.seed);
    if (loss_workspace_.size() == 0)
      loss_workspace_ = DeviceBuffer<float>(
          softmax_xent_workspace(std::max(config_.batch_size, kEvaluationBatch)));
  }
  return *inference_;
}

void TargetEngine::set_state(int64_t iteration, float learning_rate) {
  compute_.synchronize();
  state_.host() = initial_step_state(iteration, learning_rate, kAdam);
  state_.upload(compute_);
}

void TargetEngine::initialize() {
  for (const auto* arena : {&weights_, &m_, &v_})
    CUDA_CHECK(cudaMemsetAsync(arena->data(), 0, arena->bytes(), compute_));
  for (size_t i = 0; i < model_.parameters.size(); ++i) {
    const Parameter& parameter = model_.parameters[i];
    if (parameter.name != "kernel") continue;
    // Keras: every weight of a filter window counts as one input and one output.
    const int64_t channels_out = parameter.shape.back();
    const int64_t fan_in = int64_t(parameter.size) / channels_out;
    const int64_t window =
        parameter.shape.size() == 4 ? parameter.shape[0] * parameter.shape[1] : 1;
    glorot_uniform(weights_.data() + parameter.offset, parameter.size, fan_in,
                   window * channels_out, config_.seed, kInitStream + uint32_t(i), compute_);
  }
  set_state(0, config_.learning_rate);
}

void TargetEngine::load(const OptimizerState& state) {
  const struct {
    const std::vector<float>& from;
    const DeviceBuffer<float>& to;
  } arenas[] = {{state.weights, weights_}, {state.m, m_}, {state.v, v_}};
  for (const auto& arena : arenas) {
    if (arena.from.empty()) {  // a file without optimizer state: fresh moments
      CUDA_CHECK(cudaMemsetAsync(arena.to.data(), 0, arena.to.bytes(), compute_));
      continue;
    }
    if (arena.from.size() != model_.arena_size)
      throw Error(ExitCode::kInternal, "the state to load does not fit the model's arena");
    CUDA_CHECK(cudaMemcpyAsync(arena.to.data(), arena.from.data(), arena.to.bytes(),
                               cudaMemcpyHostToDevice, compute_));
  }
  set_state(state.iteration, state.learning_rate);
}

OptimizerState TargetEngine::save() {
  OptimizerState state;
  for (auto [to, from] : {std::pair{&state.weights, &weights_}, {&state.m, &m_}, {&state.v, &v_}}) {
    to->resize(model_.arena_size);
    CUDA_CHECK(
        cudaMemcpyAsync(to->data(), from->data(), from->bytes(), cudaMemcpyDeviceToHost, compute_));
  }
  state_.download(compute_);
  compute_.synchronize();
  state.iteration = state_.host().iteration;
  state.learning_rate = state_.host().learning_rate;
  return state;
}

void TargetEngine::set_training_set(const Samples& samples) {
  training_samples_ = samples;
  step_ = Graph();  // it holds the source's addresses
  if (!config_.resident) {
    stream_ = std::make_unique<BatchStream>(samples, config_.batch_size, pixels_);
    return;
  }
  resident_images_ = DeviceBuffer<uint8_t>(size_t(samples.count) * size_t(pixels_));
  resident_labels_ = DeviceBuffer<uint8_t>(size_t(samples.count));
  permutation_ = DeviceBuffer<int32_t>(size_t(samples.count));
  CUDA_CHECK(cudaMemcpyAsync(resident_images_.data(), samples.images, resident_images_.bytes(),
                             cudaMemcpyHostToDevice, compute_));
  CUDA_CHECK(cudaMemcpyAsync(resident_labels_.data(), samples.labels, resident_labels_.bytes(),
                             cudaMemcpyHostToDevice, compute_));
}

void TargetEngine::set_validation_set(const Samples& samples) {
  validation_count_ = samples.count;
  validation_images_ = DeviceBuffer<uint8_t>(size_t(samples.count) * size_t(pixels_));
  validation_labels_ = DeviceBuffer<uint8_t>(size_t(samples.count));
  CUDA_CHECK(cudaMemcpyAsync(validation_images_.data(), samples.images, validation_images_.bytes(),
                             cudaMemcpyHostToDevice, compute_));
  CUDA_CHECK(cudaMemcpyAsync(validation_labels_.data(), samples.labels, validation_labels_.bytes(),
                             cudaMemcpyHostToDevice, compute_));
}

// One training step. Whatever differs from step to step is in *state_.
void TargetEngine::enqueue_step() {
  Network& network = *training_;
  const int batch = config_.batch_size;
  const StepState* state = state_.device();
  BatchShape shape{.batch = batch, .pixels = pixels_, .source_rows = 0, .scale = kPixelScale};
  if (config_.resident) {
    const NvtxRange phase("data");
    shape.source_rows = int(training_samples_.count);
    normalize(network.input(), batch_labels_.data(), resident_images_.data(),
              resident_labels_.data(), permutation_.data(), state, shape, compute_);
  } else {
    const NvtxRange phase("data");
    shape.source_rows = stream_->rows();
    normalize(network.input(), batch_labels_.data(), stream_->images(), stream_->labels(), nullptr,
              state, shape, compute_);
  }
  const float* logits = network.forward(weights_.data(), state, batch, compute_);
  {
    const NvtxRange phase("loss");
    softmax_xent(network.dlogits(), metrics_.device(), loss_workspace_.data(), logits,
                 batch_labels_.data(), state, batch, model_.classes(), compute_);
  }
  network.backward(gradients_.data(), weights_.data(), state, batch, compute_);
  const NvtxRange phase("optimizer");
  adam(weights_.data(), m_.data(), v_.data(), gradients_.data(), state_.device(), kAdam,
       model_.arena_size, compute_);
}

// Between two steps: switches the profiler on or off if the next one wants it so.
void TargetEngine::profile() {
  const bool wanted = steps_run_ >= config_.profile_begin && steps_run_ < config_.profile_end;
  if (wanted == profiling_) return;
  compute_.synchronize();
  CUDA_CHECK(wanted ? cudaProfilerStart() : cudaProfilerStop());
  profiling_ = wanted;
}

Metrics TargetEngine::train_epoch(std::span<const int32_t> order, int64_t first_batch,
                                  const Metrics& sums, const Progress& progress) {
  if (int64_t(order.size()) != training_samples_.count)
    throw Error(ExitCode::kInternal, "the epoch's order does not cover the training set");
  const NvtxRange epoch("epoch");
  training();
  if (!config_.eager && !step_) {
    const NvtxRange range("capture");
    step_ = Graph::capture(compute_, [this] { enqueue_step(); });
  }

  state_.download(compute_);
  compute_.synchronize();
  state_.host().epoch_begin = state_.host().iteration - first_batch;
  state_.host().samples = int32_t(order.size());
  state_.upload(compute_);
  metrics_.host() = to_sums(sums);
  metrics_.host().batches = first_batch;
  metrics_.upload(compute_);
  if (config_.resident)
    CUDA_CHECK(cudaMemcpyAsync(permutation_.data(), order.data(), order.size_bytes(),
                               cudaMemcpyHostToDevice, compute_));

  const int64_t batches = (int64_t(order.size()) + config_.batch_size - 1) / config_.batch_size;
  constexpr int64_t kStride = BatchStream::kChunkSteps;
  // Metrics after each of the last chunks, so that progress lags instead of stopping the device.
  PinnedBuffer<MetricSums> snapshots(BatchStream::kChunks);
  Event taken[BatchStream::kChunks];
  bool stop = false;
  for (int64_t begin = first_batch; begin < batches && !stop;) {
    const int64_t end = std::min(batches, (begin / kStride + 1) * kStride);
    const auto place = size_t(begin / kStride % BatchStream::kChunks);
    if (begin - first_batch >= BatchStream::kChunks * kStride) {
      const NvtxRange range("wait");
      taken[place].synchronize();
      stop = progress && !progress(to_metrics(snapshots[place]));
      if (stop) break;
    }
    if (stream_) {
      const NvtxRange range("send");
      stream_->send(order, begin, end, compute_);
    }
    for (int64_t batch = begin; batch < end; ++batch, ++steps_run_) {
      profile();
      const NvtxRange step("step");
      if (config_.eager)
        enqueue_step();
      else
        step_.launch(compute_);
    }
    if (stream_) stream_->release(begin, compute_);
    CUDA_CHECK(cudaMemcpyAsync(&snapshots[place], metrics_.device(), sizeof(MetricSums),
                               cudaMemcpyDeviceToHost, compute_));
    taken[place].record(compute_);
    begin = end;
  }
  metrics_.download(compute_);
  {
    const NvtxRange range("wait");
    compute_.synchronize();
  }
  if (profiling_) profile();  // no validation in a range that ends with the epoch
  const Metrics result = to_metrics(metrics_.host());
  if (progress && !stop) progress(result);
  return result;
}

Metrics TargetEngine::evaluate() {
  const NvtxRange range("validation");
  Network& network = inference();
  compute_.synchronize();
  metrics_.host() = {};
  metrics_.upload(compute_);
  for (int64_t first = 0; first < validation_count_; first += kEvaluationBatch) {
    const int n = int(std::min<int64_t>(kEvaluationBatch, validation_count_ - first));
    const BatchShape shape{.batch = n, .pixels = pixels_, .source_rows = n, .scale = kPixelScale};
    {
      const NvtxRange phase("data");
      normalize(network.input(), nullptr, validation_images_.data() + first * pixels_, nullptr,
                nullptr, nullptr, shape, compute_);
    }
    const float* logits = network.forward(weights_.data(), nullptr, n, compute_);
    const NvtxRange phase("loss");
    softmax_xent(nullptr, metrics_.device(), loss_workspace_.data(), logits,
                 validation_labels_.data() + first, nullptr, n, model_.classes(), compute_);
  }
  metrics_.download(compute_);
  compute_.synchronize();
  return to_metrics(metrics_.host());
}

std::vector<float> TargetEngine::predict(const uint8_t* images, int64_t count) {
  Network& network = inference();
  const int classes = model_.classes();
  std::vector<float> probabilities(size_t(count) * size_t(classes));
  DeviceBuffer<uint8_t> pixels(size_t(kEvaluationBatch) * size_t(pixels_));
  DeviceBuffer<float> result(size_t(kEvaluationBatch) * size_t(classes));
  for (int64_t first = 0; first < count; first += kEvaluationBatch) {
    const int n = int(std::min<int64_t>(kEvaluationBatch, count - first));
    const BatchShape shape{.batch = n, .pixels = pixels_, .source_rows = n, .scale = kPixelScale};
    CUDA_CHECK(cudaMemcpyAsync(pixels.data(), images + first * pixels_, size_t(n) * size_t(pixels_),
                               cudaMemcpyHostToDevice, compute_));
    normalize(network.input(), nullptr, pixels.data(), nullptr, nullptr, nullptr, shape, compute_);
    backend_->softmax(result.data(), network.forward(weights_.data(), nullptr, n, compute_), n,
                      classes, compute_);
    CUDA_CHECK(cudaMemcpyAsync(&probabilities[size_t(first) * size_t(classes)], result.data(),
                               size_t(n) * size_t(classes) * sizeof(float), cudaMemcpyDeviceToHost,
                               compute_));
  }
  compute_.synchronize();
  return probabilities;
}

std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config) {
  use_threads(config.threads);
  return std::make_unique<TargetEngine>(model, config);
}

}  // namespace mnist::MNIST_TARGET
