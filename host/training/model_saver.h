// Writes a run's model file on a thread of its own, so that no epoch waits for the device's answer
// or the disk.
#pragma once

#include <condition_variable>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "host/engine/engine.h"
#include "host/model/model.h"
#include "host/model_file/model_file.h"

namespace mnist {

class ModelSaver {
 public:
  // Sees the weights and the state that are about to be written.
  using BeforeWrite = std::function<void(const std::vector<float>& weights, const RunState& state)>;

  // The model outlives the saver. `before_write` runs on the saver's thread before each file is
  // written; if it throws, the file is not written and its error counts as that of the write.
  // Throws Error when the thread cannot be created.
  ModelSaver(std::filesystem::path path, const Model& model, BeforeWrite before_write);
  // Writes what is still waiting; an error then is lost: finish() first.
  ~ModelSaver();

  // Weights, moments, iteration and learning rate are those of `saved`, the rest that of `state`.
  // Replaces a state that still waits while an earlier one is being written. Throws the Error of a
  // write that failed (once); nothing is submitted then.
  void submit(std::unique_ptr<SavedState> saved, RunState state);
  // Returns when the last state submitted is on disk; throws the Error of a write that failed.
  void finish();

 private:
  struct Snapshot {
    std::unique_ptr<SavedState> saved;
    RunState state;
  };

  void serve();
  void write(Snapshot snapshot);
  void rethrow();

  const std::filesystem::path path_;
  const Model& model_;
  const BeforeWrite before_write_;
  OptimizerState buffer_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Snapshot> waiting_;
  bool writing_ = false;
  bool quit_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace mnist
