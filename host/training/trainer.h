// A training run: epochs, validation, the log, saving, resuming, stopping.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "host/engine/engine.h"
#include "host/model/model.h"
#include "host/model_file/model_file.h"
#include "host/training/training_log.h"

namespace mnist {

struct EpochReport {
  EpochResult result;
  int64_t batches = 0;       // in the epoch
  int64_t saturated = 0;     // Metrics::saturated, of training and validation
  double train_seconds = 0;  // from the first to the last step of the epoch done by this process
  double seconds = 0;        // the same with validation
};

// Told how a run goes, on the thread that called train().
class TrainingObserver {
 public:
  virtual ~TrainingObserver() = default;
  // `epoch` counts from 1; `first_batch` batches of it were done before a resume.
  virtual void epoch_begin(int64_t epoch, int64_t batches, int64_t first_batch) = 0;
  virtual void batches_done(const Metrics& so_far) = 0;
  virtual void epoch_end(const EpochReport& report) = 0;
  // True: end the run after the batches already under way and save it.
  virtual bool stop_requested() = 0;
};

struct TrainingFiles {
  std::filesystem::path model, log;
};

struct TrainingOutcome {
  bool finished = false;            // false: stopped on request
  bool saved = false;               // the model file holds this run's last state
  RunState state;                   // where the run stands
  std::optional<EpochReport> last;  // the last epoch finished by this process
  int64_t steps = 0;                // updates by this process
  int64_t saturated = 0;            // Metrics::saturated of those, and of validation
  double train_seconds = 0;
};

// Trains until `epochs` epochs are done in all. The engine holds the data sets and the weights that
// belong to `start`, which names the run (seed, batch size, shuffling, samples) and the point it
// has reached: a fresh run and a resumed one differ in nothing else. After every epoch the log gets
// its row and then the model file is replaced, so that the length of the log kept in the model file
// says which rows belong to it. From the second on, the file is written while the next epoch runs
// (model_saver.h): epochs faster than the disk leave out files in between, and an error of writing,
// or a weight that is not finite, ends the run an epoch later. A fresh run touches neither file
// before it has something to save. Throws Error: kInternal when a loss or a weight is not finite
// (the bad weights are not saved); kCannotCreate, kIoError, kBadInput from the files.
TrainingOutcome train(Engine& engine, const Model& model, RunState start,
                      const TrainingFiles& files, int64_t epochs, TrainingObserver& observer);

}  // namespace mnist
