#include "host/engine/target_engine.h"

#include <cuda_profiler_api.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "host/engine/backends/backends.h"
#include "host/engine/device/device.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/evaluator.h"
#include "host/engine/fused_buffers.h"
#include "host/engine/fused_step.h"
#include "host/engine/metric_sums.h"
#include "host/engine/op_step.h"
#include "host/engine/saved_states.h"
#include "host/engine/training_set.h"
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

  bool is_wanted() const { return begin_ >= 0; }
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

class TargetEngine final : public Engine {
 public:
  TargetEngine(const Model& model, const EngineConfig& config)
      : model_(model),
        config_(config),
        device_(use_device()),
        backend_(make_backend(config.backend, {.fp16 = config.math == Math::kFp16})),
        state_(model_, config.learning_rate, compute_),
        saved_(model_.arena_size),
        profiler_(config.profile_begin, config.profile_end) {}

  // What is queued uses the memory of the members.
  ~TargetEngine() override { cudaStreamSynchronize(compute_); }

  const DeviceInfo& device() const override { return device_; }
  void initialize() override { state_.initialize(config_.seed, config_.learning_rate, compute_); }
  void load(const OptimizerState& state) override { state_.load(state, compute_); }
  std::unique_ptr<SavedState> begin_save() override { return saved_.begin(state_, compute_); }

  void set_training_set(const Samples& samples) override {
    const int pixels = int(model_.input.size());
    samples_ = samples.count;
    set_ = std::make_unique<TrainingSet>(samples, pixels, config_.resident, compute_);
    if (step_) step_->set_rows(set_->rows());
  }
  void set_validation_set(const Samples& samples) override {
    evaluator().set_samples(samples, compute_);
  }

  Metrics train_epoch(std::span<const int32_t> order, int64_t first_batch, const Metrics& sums,
                      const Progress& progress) override;
  size_t step_nodes() const override { return step_ ? step_->nodes() : 0; }

  Metrics evaluate() override { return evaluator().evaluate(compute_); }
  std::vector<float> predict(const uint8_t* images, int64_t count) override {
    return evaluator().predict(images, count, compute_);
  }

 private:
  // The sums after a round, one of the last kReports: progress lags instead of stopping the device.
  Metrics report(int64_t round);

  std::unique_ptr<Step> make_step() {
    if (uses_fused_kernels(config_))
      return std::make_unique<FusedStep>(model_, config_.batch_size, state_, compute_);
    return std::make_unique<OpStep>(*backend_, model_, config_, state_);
  }
  // Made when first used: predicting needs no training buffers, and the reverse.
  TrainingStep& step() {
    if (!step_) {
      step_ = std::make_unique<TrainingStep>(make_step(), config_.eager);
      step_->set_rows(set_->rows());
    }
    return *step_;
  }
  Evaluator& evaluator() {
    if (!evaluator_)
      evaluator_ = std::make_unique<Evaluator>(*backend_, model_, config_, state_, compute_);
    return *evaluator_;
  }

  const Model model_;
  const EngineConfig config_;
  const DeviceInfo device_;
  const std::unique_ptr<Backend> backend_;
  Stream compute_;
  TrainingState state_;
  SavedStates saved_;
  int64_t samples_ = 0;  // of the training set
  std::unique_ptr<TrainingSet> set_;
  std::unique_ptr<TrainingStep> step_;
  std::unique_ptr<Evaluator> evaluator_;
  Event round_done_[kReports];  // of round r at r % kReports
  int64_t steps_run_ = 0;
  ProfilerRange profiler_;
};

Metrics TargetEngine::train_epoch(std::span<const int32_t> order, int64_t first_batch,
                                  const Metrics& sums, const Progress& progress) {
  if (int64_t(order.size()) != samples_)
    throw Error(ExitCode::kInternal, "the epoch's order does not cover the training set");
  const NvtxRange epoch("epoch");
  TrainingStep& step = this->step();
  set_->set_order(order);
  state_.begin_epoch(samples_, first_batch, sums, compute_);
  step.begin_epoch(first_batch, compute_);

  const int64_t batches = (samples_ + config_.batch_size - 1) / config_.batch_size;
  const int64_t first_round = first_batch / kRoundBatches;
  bool stop = false;
  for (int64_t begin = first_batch; begin < batches;) {
    const int64_t round = begin / kRoundBatches;
    if (round - first_round >= kReports) {
      stop = progress && !progress(report(round - kReports));
      if (stop) break;
    }
    const int64_t end = std::min(batches, (round + 1) * kRoundBatches);
    const int64_t at_once = profiler_.is_wanted() ? 1 : end - begin;
    for (; begin < end; begin += at_once) {
      profiler_.before(steps_run_, compute_);
      step.run(begin, begin + at_once, steps_run_, compute_);
      steps_run_ += at_once;
    }
    round_done_[round % kReports].record(compute_);
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

Metrics TargetEngine::report(int64_t round) {
  const NvtxRange range("wait");
  round_done_[round % kReports].synchronize();
  return to_metrics(state_.reports[size_t(round % kReports)]);
}

}  // namespace

std::string math_unusable_reason(const Model& model, const EngineConfig& config) {
  if (!uses_fused_kernels(config)) return "";
  if (!is_fused_network(model))
    return fmt::format(
        "the native kernels' FP16 is for {} on {}x{}x1 images, not for {}; use FP32, or the cudnn "
        "backend",
        kFusedArch, kMnistSide, kMnistSide, arch_string(model));
  if (config.batch_size > kFusedBatch)
    return fmt::format(
        "the native kernels' FP16 is for batches of at most {}, not {}; use those, FP32, or the "
        "cudnn backend",
        kFusedBatch, config.batch_size);
  return "";
}

std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config) {
  const std::string reason = math_unusable_reason(model, config);
  if (!reason.empty()) throw Error(ExitCode::kUsage, reason);
  use_threads(config.threads);
  return std::make_unique<TargetEngine>(model, config);
}

}  // namespace mnist::MNIST_TARGET
