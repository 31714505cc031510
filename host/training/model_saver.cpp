#include "host/training/model_saver.h"

#include <pthread.h>

#include <system_error>
#include <utility>

#include "host/error.h"
#include "host/nvtx.h"

namespace mnist {

namespace {

// `ulimit -s` may leave threads less stack than HDF5 needs.
void set_least_stack_of_threads(size_t bytes) {
  pthread_attr_t attributes;
  if (pthread_getattr_default_np(&attributes) != 0) return;
  size_t size = 0;
  if (pthread_attr_getstacksize(&attributes, &size) == 0 && size < bytes &&
      pthread_attr_setstacksize(&attributes, bytes) == 0)
    pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

}  // namespace

ModelSaver::ModelSaver(std::filesystem::path path, const Model& model, BeforeWrite before_write)
    : path_(std::move(path)), model_(model), before_write_(std::move(before_write)) {
  set_least_stack_of_threads(size_t{2} << 20);
  try {
    thread_ = std::thread([this] { serve(); });
  } catch (const std::system_error& error) {
    throw Error(ExitCode::kInternal,
                "cannot start the thread that saves the model (" + error.code().message() +
                    "); see 'ulimit -u', and the container's limit on processes");
  }
}

ModelSaver::~ModelSaver() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ModelSaver::submit(std::unique_ptr<SavedState> saved, RunState state) {
  {
    std::lock_guard lock(mutex_);
    rethrow();
    waiting_ = Snapshot{std::move(saved), std::move(state)};
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

void ModelSaver::write(Snapshot snapshot) {
  const NvtxRange range("save");
  snapshot.saved->get(buffer_);
  snapshot.saved.reset();  // its memory serves the next one
  RunState& state = snapshot.state;
  state.iteration = buffer_.iteration;
  state.learning_rate = buffer_.learning_rate;
  std::swap(state.m, buffer_.m);
  std::swap(state.v, buffer_.v);
  before_write_(buffer_.weights, state);
  write_model_file(path_, model_, buffer_.weights, &state);
  std::swap(state.m, buffer_.m);
  std::swap(state.v, buffer_.v);
}

void ModelSaver::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return quit_ || waiting_; });
    if (!waiting_) return;
    Snapshot snapshot = std::move(*waiting_);
    waiting_.reset();
    writing_ = true;
    lock.unlock();
    std::exception_ptr error;
    try {
      write(std::move(snapshot));
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
