#include "host/cli/commands/train_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "host/cli/output.h"
#include "host/training/log_reader.h"

namespace mnist::cli {
namespace {

constexpr std::chrono::seconds kLeastWait{1};  // between two writings
constexpr int kShareOfAnswers = 20;            // of the time, one in so many
constexpr size_t kMistakes = 24;

std::string duration_text(double seconds) {
  if (seconds < 10) return fmt::format("{:.2g} s", seconds);
  if (seconds < 100) return fmt::format("{:.0f} s", seconds);
  if (seconds < 100 * 60) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

// What is needed of a state here, without its moments.
RunState without_moments(const RunState& state) {
  RunState copy = state;
  copy.m = copy.v = {};
  return copy;
}

}  // namespace

TrainingReport::TrainingReport(const TrainingFiles& files, std::filesystem::path path,
                               Engine& engine, const Model& model, const Dataset& data,
                               const RunState& start, int64_t epochs)
    : files_(files),
      path_(std::move(path)),
      engine_(engine),
      data_(data),
      epochs_(epochs),
      started_(utc_text(std::time(nullptr))),
      state_(without_moments(start)) {
  page_.name = files.model.filename().string();
  page_.model = &model;
  if (start.log_bytes > 0) read_earlier_epochs(start);
}

void TrainingReport::read_earlier_epochs(const RunState& start) {
  try {
    LogContent log = read_training_log(files_.log);
    std::erase_if(log.rows, [&](const EpochResult& row) { return row.epoch > start.epoch; });
    page_.epochs = std::move(log.rows);
    page_.remarks = std::move(log.remarks);
  } catch (const Error& error) {
    page_.remarks = {fmt::format("Without the epochs before this start: {}.", error.what())};
  }
}

void TrainingReport::epoch_end(const EpochReport& report) {
  page_.epochs.push_back(report.result);
  state_.epoch = report.result.epoch;
  state_.batch = 0;
  state_.iteration = report.batches * state_.epoch;
  ++epochs_here_;
  seconds_ += report.seconds;
  // What comes after the last epoch is for finish().
  if (state_.epoch >= epochs_ || (written_ && Clock::now() - *written_ < kLeastWait)) return;
  if (!answered_ || Clock::now() - *answered_ >= kShareOfAnswers * pass_)
    renew_answers(report.result.val_loss);
  page_.under_way = true;
  page_.status = fmt::format("Under way: {} of {} are done, {}.", grouped(state_.epoch),
                             counted(epochs_, "epoch"), pace());
  write();
}

ExitCode TrainingReport::finish(const TrainingOutcome& outcome) {
  state_ = without_moments(outcome.state);
  if (state_.batch > 0 || page_.epochs.empty())
    renew_answers(engine_.evaluate().loss());
  else if (!page_.test || page_.test->epoch != state_.epoch)
    renew_answers(page_.epochs.back().val_loss);
  page_.test->epoch = 0;
  page_.under_way = false;
  page_.status =
      outcome.finished
          ? ""
          : fmt::format(
                "Stopped on request after {} and {}, before the {} that were "
                "asked for.",
                counted(state_.epoch, "epoch"), counted(state_.batch, "step"), grouped(epochs_));
  write();
  if (!failure_) return ExitCode::kOk;
  message(fmt::format("cuda-mnist: {}", failure_->what()));
  return failure_->code();
}

void TrainingReport::fail(const std::string& why) {
  page_.under_way = false;
  page_.status = "Ended by an error: " + why;
  write();
}

void TrainingReport::renew_answers(double loss) {
  const Clock::time_point begin = Clock::now();
  page_.test = TestResult{data_.name, &data_.test,
                          find_answers(engine_, data_.test, data_.test.count, kMistakes), loss,
                          state_.epoch};
  engine_.begin_save()->get(weights_);
  page_.weights = weights_.weights;
  answered_ = Clock::now();
  pass_ = *answered_ - begin;
}

std::string TrainingReport::pace() const {
  const double each = seconds_ / double(std::max<int64_t>(epochs_here_, 1));
  return fmt::format("about {} to go", duration_text(each * double(epochs_ - state_.epoch)));
}

std::vector<Fact> TrainingReport::facts() const {
  std::vector<Fact> facts = recipe_facts(state_);
  facts.push_back({"Device", device_text(engine_.device())});
  facts.push_back({"Started", started_});
  if (epochs_here_ > 0)
    facts.push_back({"Time", fmt::format("{} for {}, validation included: {} each",
                                         duration_text(seconds_), counted(epochs_here_, "epoch"),
                                         duration_text(seconds_ / double(epochs_here_)))});
  facts.push_back({"Model file", files_.model.string()});
  facts.push_back({"Log", files_.log.string()});
  return facts;
}

void TrainingReport::write() {
  page_.facts = facts();
  page_.written = written_text();
  try {
    write_report(path_, page_);
    failure_.reset();
  } catch (const Error& error) {
    failure_ = error;
    if (!std::exchange(told_, true) && page_.under_way)
      message(fmt::format("cuda-mnist: {}. The training goes on without it.", error.what()));
  }
  written_ = Clock::now();
}

}  // namespace mnist::cli
