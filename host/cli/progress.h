// What a person sees on standard error while something runs: on a terminal a bar like Keras', at
// most ten times a second and no wider than the window; elsewhere one line per epoch.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "host/engine/engine.h"
#include "host/training/trainer.h"

namespace mnist::cli {

// A line that is drawn again and again in place. Does nothing where standard error is not a
// terminal, or a dumb one.
class StatusLine {
 public:
  StatusLine();
  bool live() const { return live_; }
  bool colour() const { return colour_; }  // NO_COLOR is not set
  int columns() const;                     // that fit on one line of the window
  bool due() const;                        // a tenth of a second since the last drawing
  // `text` takes up `width` columns.
  void draw(const std::string& text, int width);
  void end();  // what is drawn stays; the next text starts a new line

 private:
  using Clock = std::chrono::steady_clock;
  bool live_, colour_;
  int width_ = 0;  // columns in use
  Clock::time_point drawn_{};
};

class TrainingBar {
 public:
  explicit TrainingBar(int64_t epochs) : epochs_(epochs) {}
  void epoch_begin(int64_t epoch, int64_t batches, int64_t first_batch);
  void batches_done(const Metrics& so_far);
  void epoch_end(const EpochReport& report);
  void end_line() { line_.end(); }

 private:
  void draw(int64_t batch, double seconds, double step_seconds, const std::string& metrics,
            bool last);

  StatusLine line_;
  int64_t epochs_, epoch_ = 0, batches_ = 0, first_batch_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

class DownloadBar {
 public:
  void update(const std::string& file, int64_t done, int64_t total);

 private:
  StatusLine line_;
};

}  // namespace mnist::cli
