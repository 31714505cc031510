#include "host/cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "host/cli/output.h"
#include "host/os/environment.h"
#include "host/os/posix_io.h"

namespace mnist::cli {
namespace {

bool utf8_terminal() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string value = environment(name);
    if (!value.empty())
      return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos;
  }
  return false;
}

std::string duration(double seconds) {
  const auto whole = int64_t(std::llround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string step_time(double seconds) {
  if (seconds >= 1 || seconds == 0) return fmt::format("{:.0f}s/step", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.0f}ms/step", seconds * 1e3);
  return fmt::format("{:.0f}us/step", seconds * 1e6);
}

std::string metric(const char* name, double value) {
  return std::abs(value) > 1e-3 ? fmt::format(" - {}: {:.4f}", name, value)
                                : fmt::format(" - {}: {:.4e}", name, value);
}

// Of a run in FP16 that has some.
std::string saturated(int64_t numbers) {
  return numbers == 0 ? "" : fmt::format(" - saturated: {}", numbers);
}

std::string all_metrics(const EpochReport& report) {
  const EpochResult& result = report.result;
  return metric("accuracy", result.accuracy) + metric("loss", result.loss) +
         metric("val_accuracy", result.val_accuracy) + metric("val_loss", result.val_loss) +
         saturated(report.saturated);
}

}  // namespace

StatusLine::StatusLine()
    : live_(isatty(STDERR_FILENO) && !environment("TERM").empty() && environment("TERM") != "dumb"),
      colour_(environment("NO_COLOR").empty()) {}

int StatusLine::columns() const {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  // The last column stays free: some terminals wrap as soon as it is used.
  return (known ? size.ws_col : 80) - 1;
}

bool StatusLine::due() const {
  return live_ && Clock::now() - drawn_ >= std::chrono::milliseconds(100);
}

void StatusLine::draw(const std::string& text, int width) {
  if (!live_) return;
  const int leftover = std::min(width_, columns()) - width;
  write_all(STDERR_FILENO, fmt::format("\r{}{:{}}", text, "", std::max(leftover, 0)));
  width_ = width;
  drawn_ = Clock::now();
}

void StatusLine::end() {
  if (width_ > 0) write_all(STDERR_FILENO, "\n");
  width_ = 0;
  drawn_ = {};
}

void TrainingBar::epoch_begin(int64_t epoch, int64_t batches, int64_t first_batch) {
  epoch_ = epoch;
  batches_ = batches;
  first_batch_ = first_batch;
  begin_ = std::chrono::steady_clock::now();
  if (line_.live()) message(fmt::format("Epoch {}/{}", epoch, epochs_));
}

void TrainingBar::batches_done(const Metrics& so_far) {
  if (!line_.due() || so_far.batches <= first_batch_) return;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin_;
  const double step = elapsed.count() / double(so_far.batches - first_batch_);
  draw(so_far.batches, step * double(batches_ - so_far.batches), step,
       metric("accuracy", so_far.accuracy()) + metric("loss", so_far.loss()) +
           saturated(so_far.saturated),
       false);
}

void TrainingBar::epoch_end(const EpochReport& report) {
  const auto steps = double(std::max<int64_t>(batches_ - first_batch_, 1));
  const double step = report.train_seconds / steps;
  if (line_.live()) {
    draw(batches_, report.seconds, step, all_metrics(report), true);
    line_.end();
  } else {
    message(fmt::format("Epoch {}/{} - {} - {}{}", epoch_, epochs_, duration(report.seconds),
                        step_time(step), all_metrics(report)));
  }
}

void TrainingBar::draw(int64_t batch, double seconds, double step_seconds,
                       const std::string& metrics, bool last) {
  const std::string total = fmt::format("{}", batches_);
  const std::string counter = fmt::format("{:>{}}/{}", batch, total.size(), total);
  const std::string time = duration(seconds);
  const std::string step = " " + step_time(step_seconds);

  // What does not fit goes: half the bar, all of it, the step time; only a last line may wrap.
  int cells = 20;
  std::string tail = step + metrics;
  const auto width = [&] {
    return int(counter.size() + 1 + time.size() + tail.size()) + (cells > 0 ? cells + 1 : 0);
  };
  const int columns = line_.columns();
  for (const int fewer : {10, 0})
    if (width() > columns) cells = fewer;
  if (width() > columns) tail = metrics;
  if (width() > columns && !last)
    tail.resize(tail.size() - std::min<size_t>(tail.size(), width() - columns));
  if (width() > columns && !last) return;

  static const bool utf8 = utf8_terminal();
  const int filled = int(cells * batch / std::max<int64_t>(batches_, 1));
  std::string done, to_do;
  for (int i = 0; i < cells; ++i)
    (i < filled ? done : to_do) += utf8 ? "\u2501" : (i < filled ? "=" : ".");
  std::string bar;
  if (line_.colour()) {
    if (!done.empty()) done = "\x1b[32m" + done + "\x1b[0m";
    if (!to_do.empty()) to_do = "\x1b[37m" + to_do + "\x1b[0m";
    bar = fmt::format("\x1b[1m{}\x1b[0m {}{}{}\x1b[1m{}\x1b[0m{}", counter, done, to_do,
                      cells > 0 ? " " : "", time, tail);
  } else {
    bar = fmt::format("{} {}{}{}{}{}", counter, done, to_do, cells > 0 ? " " : "", time, tail);
  }
  line_.draw(bar, width());
}

void DownloadBar::update(const std::string& file, int64_t done, int64_t total) {
  const bool complete = total > 0 && done >= total;
  if (!line_.due() && !(complete && line_.live())) return;
  const double megabytes = double(done) / 1e6;
  std::string text =
      total > 0 ? fmt::format("{}  {:.1f} of {:.1f} MB", file, megabytes, double(total) / 1e6)
                : fmt::format("{}  {:.1f} MB", file, megabytes);
  text.resize(std::min<size_t>(text.size(), std::max(line_.columns(), 0)));
  line_.draw(text, int(text.size()));
  if (complete) line_.end();
}

}  // namespace mnist::cli
