#include "host/engine/target_engine.h"

#include <cuda_profiler_api.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <memory>

#include "host/engine/backends/backends.h"
#include "host/engine/batch_source.h"
#include "host/engine/device/device.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/evaluator.h"
#include "host/engine/metric_sums.h"
#include "host/engine/training_state.h"
#include "host/engine/training_step.h"
#include "host/error.h"
#include "host/nvtx.h"

namespace mnist::MNIST_TARGET {

namespace {

// Brackets the steps [begin,end) of a run for the profiler.
class ProfilerRange {
 public:
  ProfilerRange(int64_t begin, int64_t end) : begin_(begin), end_(end) {}

  // Before step number `step`: switches the profiler on or off if that step wants it so.
  void before(int64_t step, const Stream& compute) {
    const bool wanted = step >= begin_ && step < end_;
    if (wanted == on_) return;
    compute.synchronize();
    CUDA_CHECK(wanted ? cudaProfilerStart() : cudaProfilerStop());
    on_ = wanted;
  }
  // After an epoch's last step, when `step` is the next: a range that ends with the epoch has no
  // validation in it.
  void after_epoch(int64_t step, const Stream& compute) {
    if (on_) before(step, compute);
  }

 private:
  const int64_t begin_, end_;
  bool on_ = false;
};

// The metrics after each of the last chunks, read kChunks chunks later: progress lags instead of
// stopping the device.
class LaggingProgress {
 public:
  // Puts a copy of `sums` (on the device), as they are after the chunk, into `compute`.
  void take(int64_t chunk, const MetricSums* sums, cudaStream_t compute) {
    const auto slot = size_t(chunk % kChunks);
    CUDA_CHECK(
        cudaMemcpyAsync(&sums_[slot], sums, sizeof(MetricSums), cudaMemcpyDeviceToHost, compute));
    taken_[slot].record(compute);
  }
  // Waits for the chunk, one of the last kChunks that were taken.
  Metrics wait_for(int64_t chunk) {
    const NvtxRange range("wait");
    const auto slot = size_t(chunk % kChunks);
    taken_[slot].synchronize();
    return to_metrics(sums_[slot]);
  }

 private:
  PinnedBuffer<MetricSums> sums_{kChunks};
  Event taken_[kChunks];
};

class TargetEngine final : public Engine {
 public:
  TargetEngine(const Model& model, const EngineConfig& config)
      : model_(model),
        config_(config),
        device_(device_info()),
        backend_(make_backend(config.backend)),
        state_(model_, config.learning_rate, compute_),
        profiler_(config.profile_begin, config.profile_end) {}

  const DeviceInfo& device() const override { return device_; }
  void initialize() override { state_.initialize(config_.seed, config_.learning_rate, compute_); }
  void load(const OptimizerState& state) override { state_.load(state, compute_); }
  OptimizerState save() override { return state_.save(compute_); }

  void set_training_set(const Samples& samples) override {
    const int pixels = int(model_.input.size());
    samples_ = samples.count;
    source_ = config_.resident ? make_resident_batches(samples, pixels, compute_)
                               : make_streamed_batches(samples, config_.batch_size, pixels);
    if (step_) step_->set_source(source_->rows());
  }
  void set_validation_set(const Samples& samples) override {
    evaluator().set_samples(samples, compute_);
  }

  Metrics train_epoch(std::span<const int32_t> order, int64_t first_batch, const Metrics& sums,
                      const Progress& progress) override;
  size_t step_nodes() const override { return step_ ? step_->nodes() : 0; }

  Metrics evaluate() override { return evaluator().evaluate(state_.weights.data(), compute_); }
  std::vector<float> predict(const uint8_t* images, int64_t count) override {
    return evaluator().predict(state_.weights.data(), images, count, compute_);
  }

 private:
  // Made when first used: predicting needs no training buffers, and the reverse.
  TrainingStep& step() {
    if (!step_) {
      step_ = std::make_unique<TrainingStep>(*backend_, model_, config_, state_, compute_);
      step_->set_source(source_->rows());
    }
    return *step_;
  }
  Evaluator& evaluator() {
    if (!evaluator_) evaluator_ = std::make_unique<Evaluator>(*backend_, model_);
    return *evaluator_;
  }

  const Model model_;
  const EngineConfig config_;
  const DeviceInfo device_;
  const std::unique_ptr<Backend> backend_;
  Stream compute_;
  TrainingState state_;
  int64_t samples_ = 0;  // of the training set
  std::unique_ptr<BatchSource> source_;
  std::unique_ptr<TrainingStep> step_;
  std::unique_ptr<Evaluator> evaluator_;
  int64_t steps_run_ = 0;
  ProfilerRange profiler_;
};

Metrics TargetEngine::train_epoch(std::span<const int32_t> order, int64_t first_batch,
                                  const Metrics& sums, const Progress& progress) {
  if (int64_t(order.size()) != samples_)
    throw Error(ExitCode::kInternal, "the epoch's order does not cover the training set");
  const NvtxRange epoch("epoch");
  TrainingStep& step = this->step();
  step.prepare(compute_);
  state_.begin_epoch(samples_, first_batch, sums, compute_);
  source_->begin_epoch(order, compute_);

  const int64_t batches = (samples_ + config_.batch_size - 1) / config_.batch_size;
  const int64_t first_chunk = first_batch / kChunkBatches;
  const int64_t chunks = (batches + kChunkBatches - 1) / kChunkBatches;
  LaggingProgress lagging;
  bool stop = false;
  for (int64_t chunk = first_chunk; chunk < chunks; ++chunk) {
    if (chunk - first_chunk >= kChunks) {
      const Metrics so_far = lagging.wait_for(chunk - kChunks);
      stop = progress && !progress(so_far);
      if (stop) break;
    }
    const int64_t begin = std::max(first_batch, chunk * kChunkBatches);
    const int64_t end = std::min(batches, (chunk + 1) * kChunkBatches);
    source_->provide(begin, end, compute_);
    for (int64_t batch = begin; batch < end; ++batch) {
      profiler_.before(steps_run_++, compute_);
      step.run(compute_);
    }
    source_->release(begin, compute_);
    lagging.take(chunk, state_.metrics.device(), compute_);
  }
  state_.metrics.download(compute_);
  {
    const NvtxRange range("wait");
    compute_.synchronize();
  }
  profiler_.after_epoch(steps_run_, compute_);
  const Metrics result = to_metrics(state_.metrics.host());
  if (progress && !stop) progress(result);
  return result;
}

}  // namespace

std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config) {
  use_threads(config.threads);
  return std::make_unique<TargetEngine>(model, config);
}

}  // namespace mnist::MNIST_TARGET
