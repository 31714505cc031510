#include "host/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "host/data/epoch_order.h"
#include "host/error.h"
#include "host/training/model_saver.h"

namespace mnist {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Keras holds its means in float32; the same values appear in the log, in JSON and on the screen.
double as_float32(double value) {
  return double(float(value));
}

class Run {
 public:
  Run(Engine& engine, const Model& model, RunState start, const TrainingFiles& files,
      TrainingObserver& observer)
      : engine_(engine),
        files_(files),
        observer_(observer),
        batches_((start.train_samples + start.batch_size - 1) / start.batch_size),
        orders_(start.train_samples, start.seed, start.shuffle),
        saver_(files.model, model,
               [this](const std::vector<float>& weights, const RunState& state) {
                 before_write(weights, state);
               }) {
    outcome_.state = std::move(start);
    // The rows of a resumed run are checked at once, not after an epoch of work.
    if (state().log_bytes > 0) log_.emplace(files_.log, state().log_bytes);
  }

  TrainingOutcome run(int64_t epochs) {
    while (state().epoch < epochs && !observer_.stop_requested())
      if (!epoch()) break;
    outcome_.finished = state().epoch >= epochs;
    if (outcome_.finished && !outcome_.last) save();  // --epochs 0
    saver_.finish();
    return std::move(outcome_);
  }

 private:
  RunState& state() { return outcome_.state; }

  // False if the epoch was stopped before its end.
  bool epoch() {
    observer_.epoch_begin(state().epoch + 1, batches_, state().batch);
    const std::vector<int32_t>& order = orders_.get(state().epoch);
    const int64_t first_batch = state().batch;
    const int64_t saturated_before = state().sums.saturated;

    Stopwatch watch;
    const Metrics train =
        engine_.train_epoch(order, first_batch, state().sums, [this](const Metrics& so_far) {
          observer_.batches_done(so_far);
          return so_far.first_nonfinite == 0 && !observer_.stop_requested();
        });
    EpochReport report;
    report.train_seconds = watch.seconds();
    outcome_.train_seconds += report.train_seconds;
    outcome_.steps += train.batches - first_batch;
    outcome_.saturated += train.saturated - saturated_before;
    state().iteration += train.batches - first_batch;
    if (train.first_nonfinite != 0) fail_not_finite("the loss", train.first_nonfinite);
    if (!std::isfinite(train.loss())) fail_not_finite("the loss", train.batches);

    if (train.batches < batches_) {
      state().batch = train.batches;
      state().sums = train;
      if (train.batches > first_batch) save();
      return false;
    }

    const Metrics validation = engine_.evaluate();
    report.seconds = watch.seconds();
    if (!std::isfinite(validation.loss())) fail_not_finite("the validation loss", batches_);

    outcome_.saturated += validation.saturated;

    ++state().epoch;
    state().batch = 0;
    state().sums = {};
    report.batches = batches_;
    report.saturated = train.saturated + validation.saturated;
    report.result = {.epoch = state().epoch,
                     .loss = as_float32(train.loss()),
                     .accuracy = as_float32(train.accuracy()),
                     .val_loss = as_float32(validation.loss()),
                     .val_accuracy = as_float32(validation.accuracy())};
    log().append(report.result);
    save();
    outcome_.last = report;
    observer_.epoch_end(report);
    return true;
  }

  TrainingLog& log() {
    if (!log_) log_.emplace(files_.log, 0);
    return *log_;
  }

  void save() {
    state().log_bytes = log().bytes();
    saver_.submit(engine_.begin_save(), state());
    if (!outcome_.saved) saver_.finish();  // what cannot be written shows at once
    outcome_.saved = true;
  }

  // On the saver's thread.
  void before_write(const std::vector<float>& weights, const RunState& state) {
    const auto finite = [](float x) { return std::isfinite(x); };
    if (!std::all_of(weights.begin(), weights.end(), finite)) {
      const bool in_epoch = state.batch > 0 || state.epoch == 0;
      throw not_finite("a weight", state.epoch + (in_epoch ? 1 : 0),
                       in_epoch ? state.batch : batches_, written_);
    }
    // The log first: --resume could not use a model that counts rows which are not on disk.
    log_->sync();
    written_ = state.epoch;
  }

  // `batch` of the current epoch, from 1.
  [[noreturn]] void fail_not_finite(const std::string& what, int64_t batch) {
    saver_.finish();
    throw not_finite(what, state().epoch + 1, batch,
                     outcome_.saved ? std::optional(state().epoch) : std::nullopt);
  }
  // `kept`: the epochs of the model that the file keeps, if this run has written one.
  Error not_finite(const std::string& what, int64_t epoch, int64_t batch,
                   std::optional<int64_t> kept) const {
    const std::string file =
        kept ? fmt::format("; {} keeps the model of epoch {}", files_.model.string(), *kept)
             : "; nothing was saved by this run";
    return Error(
        ExitCode::kInternal,
        fmt::format("{} became infinite or NaN in epoch {}, step {} of {}{}. Try a smaller "
                    "--learning-rate.",
                    what, epoch, batch, batches_, file));
  }

  Engine& engine_;
  const TrainingFiles& files_;
  TrainingObserver& observer_;
  int64_t batches_;  // in an epoch
  EpochOrders orders_;
  std::optional<TrainingLog> log_;
  TrainingOutcome outcome_;
  std::optional<int64_t> written_;  // epochs of the last model written; the saver's thread's
  ModelSaver saver_;
};

}  // namespace

TrainingOutcome train(Engine& engine, const Model& model, RunState start,
                      const TrainingFiles& files, int64_t epochs, TrainingObserver& observer) {
  return Run(engine, model, std::move(start), files, observer).run(epochs);
}

}  // namespace mnist
