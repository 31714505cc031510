// The page of a run that is under way: `train --report`.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/cli/report_writer.h"
#include "host/data/dataset.h"
#include "host/engine/engine.h"
#include "host/error.h"
#include "host/model_file/model_file.h"
#include "host/report/report.h"
#include "host/training/trainer.h"

namespace mnist::cli {

// Rewrites the page after an epoch, but not more than once a second, and at the end. The test set's
// answers, a pass over it each time, are renewed so often that they take a twentieth of the time at
// most, and at the end. A page that cannot be written does not end the run: it is told once, and
// again at the end.
class TrainingReport {
 public:
  // All that is given by reference outlives it; `start` is the state from which the run goes on.
  TrainingReport(const TrainingFiles& files, std::filesystem::path path, Engine& engine,
                 const Model& model, const Dataset& data, const RunState& start, int64_t epochs);

  void epoch_end(const EpochReport& report);
  // The last state of the page; kOk, or why it could not be written.
  ExitCode finish(const TrainingOutcome& outcome);
  // The same when the run ends with an error; the engine is left alone.
  void fail(const std::string& why);

 private:
  using Clock = std::chrono::steady_clock;

  void read_earlier_epochs(const RunState& start);
  void renew_answers(double loss);
  std::vector<Fact> facts() const;
  std::string pace() const;
  void write();

  const TrainingFiles& files_;
  const std::filesystem::path path_;
  Engine& engine_;
  const Dataset& data_;
  const int64_t epochs_;
  const std::string started_;
  RunState state_;          // how far the run is; no moments
  OptimizerState weights_;  // those of the last answers
  Report page_;
  int64_t epochs_here_ = 0;  // by this process
  double seconds_ = 0;       // for them
  std::optional<Clock::time_point> written_, answered_;
  Clock::duration pass_{};        // what the last answers took
  std::optional<Error> failure_;  // of the last writing
  bool told_ = false;
};

}  // namespace mnist::cli
