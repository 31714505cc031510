#include "host/training/model_saver.h"

#include <utility>

#include "host/nvtx.h"

namespace mnist {

ModelSaver::ModelSaver(std::filesystem::path path, const Model& model,
                       std::function<void()> before_write)
    : path_(std::move(path)),
      model_(model),
      before_write_(std::move(before_write)),
      thread_([this] { serve(); }) {}

ModelSaver::~ModelSaver() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ModelSaver::submit(std::vector<float> weights, RunState state) {
  {
    std::lock_guard lock(mutex_);
    rethrow();
    waiting_ = Snapshot{std::move(weights), std::move(state)};
  }
  changed_.notify_all();
}

void ModelSaver::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !waiting_ && !writing_; });
  rethrow();
}

void ModelSaver::rethrow() {
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ModelSaver::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return quit_ || waiting_; });
    if (!waiting_) return;
    const Snapshot snapshot = std::move(*waiting_);
    waiting_.reset();
    writing_ = true;
    lock.unlock();
    std::exception_ptr error;
    try {
      const NvtxRange range("save");
      before_write_();
      write_model_file(path_, model_, snapshot.weights, &snapshot.state);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    writing_ = false;
    if (error) error_ = error;
    changed_.notify_all();
  }
}

}  // namespace mnist
