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
        // The log first: --resume could not use a model that counts rows which are not on disk.
        saver_(files.model, model, [this] { log_->sync(); }) {
    outcome_.state = std::move(start);
    // The rows of a resumed run are checked at once, not after an epoch of work.
    if (state().log_bytes > 0) log_.emplace(files_.log, state().log_bytes);
  }

  TrainingOutcome run(int64_t epochs) {
    while (state().epoch < epochs && !observer_.stop_requested())
      if (!epoch()) break;
    outcome_.finished = state().epoch >= epochs;
    if (outcome_.finished && !outcome_.last) save(finite_weights(0));  // --epochs 0
    saver_.finish();
    return std::move(outcome_);
  }

 private:
  RunState& state() { return outcome_.state; }

  // False if the epoch was stopped before its end.
  bool epoch() {
    observer_.epoch_begin(state().epoch + 1, batches_, state().batch);
    const std::vector<int32_t> order =
        epoch_order(state().train_samples, state().seed, state().epoch, state().shuffle);
    const int64_t first_batch = state().batch;

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
    if (train.first_nonfinite != 0) fail_not_finite("the loss", train.first_nonfinite);
    if (!std::isfinite(train.loss())) fail_not_finite("the loss", train.batches);

    if (train.batches < batches_) {
      state().batch = train.batches;
      state().sums = train;
      if (train.batches > first_batch) save(finite_weights(train.batches));
      return false;
    }

    const Metrics validation = engine_.evaluate();
    report.seconds = watch.seconds();
    if (!std::isfinite(validation.loss())) fail_not_finite("the validation loss", batches_);

    OptimizerState saved = finite_weights(batches_);
    ++state().epoch;
    state().batch = 0;
    state().sums = {};
    report.batches = batches_;
    report.result = {.epoch = state().epoch,
                     .loss = as_float32(train.loss()),
                     .accuracy = as_float32(train.accuracy()),
                     .val_loss = as_float32(validation.loss()),
                     .val_accuracy = as_float32(validation.accuracy())};
    log().append(report.result);
    save(std::move(saved));
    outcome_.last = report;
    observer_.epoch_end(report);
    return true;
  }

  TrainingLog& log() {
    if (!log_) log_.emplace(files_.log, 0);
    return *log_;
  }

  // The weights after `batch` batches of the current epoch.
  OptimizerState finite_weights(int64_t batch) {
    OptimizerState saved = engine_.save();
    const auto finite = [](float x) { return std::isfinite(x); };
    if (!std::all_of(saved.weights.begin(), saved.weights.end(), finite))
      fail_not_finite("a weight", batch);
    return saved;
  }

  void save(OptimizerState saved) {
    state().iteration = saved.iteration;
    state().log_bytes = log().bytes();
    RunState snapshot = state();
    snapshot.m = std::move(saved.m);
    snapshot.v = std::move(saved.v);
    saver_.submit(std::move(saved.weights), std::move(snapshot));
    if (!outcome_.saved) saver_.finish();  // what cannot be written shows at once
    outcome_.saved = true;
  }

  // `batch` of the current epoch, from 1.
  [[noreturn]] void fail_not_finite(const std::string& what, int64_t batch) {
    saver_.finish();
    const std::string kept = outcome_.saved ? fmt::format("; {} keeps the model of epoch {}",
                                                          files_.model.string(), state().epoch)
                                            : "; nothing was saved by this run";
    throw Error(ExitCode::kInternal,
                fmt::format("{} became infinite or NaN in epoch {}, step {} of {}{}. Try a smaller "
                            "--learning-rate.",
                            what, state().epoch + 1, batch, batches_, kept));
  }

  Engine& engine_;
  const TrainingFiles& files_;
  TrainingObserver& observer_;
  int64_t batches_;  // in an epoch
  std::optional<TrainingLog> log_;
  TrainingOutcome outcome_;
  ModelSaver saver_;
};

}  // namespace

TrainingOutcome train(Engine& engine, const Model& model, RunState start,
                      const TrainingFiles& files, int64_t epochs, TrainingObserver& observer) {
  return Run(engine, model, std::move(start), files, observer).run(epochs);
}

}  // namespace mnist
