// What the rest of the host sees of the training engine: plain C++, no CUDA types.
// target_engine.cpp implements it; the build compiles that once per target (cuda, cpu).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/data/image_set.h"
#include "host/model/math.h"
#include "host/model/metrics.h"
#include "host/model/model.h"

namespace mnist {

enum class Target { kCuda, kCpu };

// Whose kernels the layers run on: those of this project, or cuDNN's and cuBLAS' (cuda target).
enum class BackendKind { kNative, kCudnn };

struct DeviceInfo {
  Target target;
  int index = 0;             // among the target's devices, as CUDA numbers them
  std::string name;          // "NVIDIA H100 80GB HBM3", or the processor's name
  std::string architecture;  // "sm_90", or "simt"
  int multiprocessors = 0;   // SMs, or OS threads
  size_t total_memory = 0;   // bytes; 0 on the cpu target
  int driver_version = 0;    // 13000 = 13.0; 0 on the cpu target
};

// All that a run needs to go on: arenas as laid out by Model, and Adam's counter.
struct OptimizerState {
  std::vector<float> weights, m, v;  // each Model::arena_size long; gaps are zero
  int64_t iteration = 0;             // updates done
  float learning_rate = 0.001f;
};

struct EngineConfig {
  BackendKind backend = BackendKind::kNative;
  Math math = Math::kFp32;
  int batch_size = 128;
  float learning_rate = 0.001f;
  uint64_t seed = 0;       // initial weights, dropout
  bool resident = false;   // the training set in the device's memory, not in pinned memory
  bool eager = false;      // launch each kernel anew, not a graph of the step: same bits, slower
  int threads = 0;         // cpu target: OS threads; 0 = one per core
  int profile_begin = -1;  // cudaProfilerStart before this step of the run (from 0); -1: never
  int profile_end = -1;    // cudaProfilerStop before this one
};

// A state of a training on its way from the device.
class SavedState {
 public:
  virtual ~SavedState() = default;
  // Waits for it; any thread may call this. Vectors of the right size are reused.
  virtual void get(OptimizerState& state) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const DeviceInfo& device() const = 0;

  // Fresh weights: Glorot uniform kernels from the seed, zero biases, iteration 0.
  virtual void initialize() = 0;
  virtual void load(const OptimizerState& state) = 0;
  // The state as it is now; it arrives while the engine goes on. It is kept no longer than the
  // engine.
  virtual std::unique_ptr<SavedState> begin_save() = 0;
  OptimizerState save() {
    OptimizerState state;
    begin_save()->get(state);
    return state;
  }

  virtual void set_training_set(const Samples& samples) = 0;  // both are copied
  virtual void set_validation_set(const Samples& samples) = 0;

  // Runs the batches of one epoch from number `first_batch` (0: all) in the order given: a
  // permutation of the training set. `sums` are those of the batches before first_batch and
  // continue in the result. `progress` is called now and then with the sums so far, lagging a few
  // batches behind; when it returns false the epoch ends after the batches already under way.
  // Result.batches is the number of batches done.
  using Progress = std::function<bool(const Metrics& so_far)>;
  virtual Metrics train_epoch(std::span<const int32_t> order, int64_t first_batch,
                              const Metrics& sums, const Progress& progress) = 0;

  // Nodes (kernels) of the graph that a training step is; 0 as long as none was needed.
  virtual size_t step_nodes() const = 0;

  // Loss and accuracy over the validation set, dropout off.
  virtual Metrics evaluate() = 0;
  // Probabilities [count,classes] of images [count,pixels].
  virtual std::vector<float> predict(const uint8_t* images, int64_t count) = 0;
};

// Why a target cannot be used, cause and cure in one line ("no NVIDIA driver (libcuda.so.1) was
// found; install one, ..."); empty if it can. The cpu target can always be used.
std::string unusable_reason(Target target);
DeviceInfo device_info(Target target);  // throws Error(kUnavailable) where unusable

// Several GPUs. What a thread does on a target runs on the device that it selected last, else on
// the one that CUDA chooses (number 0, unless another process has that one to itself).
std::vector<DeviceInfo> devices(Target target);  // in order of their index; empty without a driver
// Call it before anything else of the target. Returns why it failed, in one line; empty: it is
// done.
std::string select_device(Target target, int index);

// Why a target does not compute the model with config.math, backend and batch size, in one line
// with the cure; empty if it does. Error(kUnavailable) as below.
std::string math_unusable_reason(Target target, const Model& model, const EngineConfig& config);

// Throws Error(kUnavailable) if the target or the backend cannot be used, Error(kUsage) if there is
// a math_unusable_reason(), std::invalid_argument if a layer is larger than its kernels can index.
std::unique_ptr<Engine> make_engine(Target target, const Model& model, const EngineConfig& config);

// The same for the libraries of the cudnn backend, and their versions ("cuDNN 9.19.0, cuBLAS
// 13.1.0"); the latter throws Error(kUnavailable) where they cannot be loaded.
std::string cudnn_unusable_reason();
std::string cudnn_versions();

// Architectures the cuda target was compiled for ("75-real ... 120"); empty if it was not built.
std::string compiled_architectures();

}  // namespace mnist
