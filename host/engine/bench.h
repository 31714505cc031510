// Timings: every launcher of kernels.h or fused/fused.h on its own, the operations of both
// backends, the whole training step and an epoch. Plain C++; the kernels' part is implemented once
// per target, in engine/.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "host/engine/engine.h"

namespace mnist {

// What one row of the benchmark does.
struct BenchRow {
  std::string name;     // the launcher, without namespace and `_naive`; or "step", "epoch"
  std::string shape;    // "128x13x13x32 3x3x64"; in a comparison "128x13x13x32 conv:64x3"
  std::string backend;  // "native", "cudnn"; "naive": the launcher's `_naive` twin
  double flops = 0;     // a multiplication with an addition counts as two; 0: not counted
  Math math = Math::kFp32;
};

struct BenchTimes {
  double bytes = 0;  // that a launch must move: inputs once, outputs once; 0: not counted
  int launches = 0;  // in each repeat, one after the other
  // Per launch, of each repeat. Warm: every launch on the same buffers, which stay in the cache as
  // far as they fit, as between the kernels of a step. Cold: on buffers that others have displaced.
  std::vector<double> seconds, cold_seconds;  // cold: empty for a whole step or epoch
};

// What the device can do at most, from its clocks; 0: unknown.
struct DevicePeak {
  double flops = 0;  // FP32 operations per second
  double bytes = 0;  // bytes per second to and from its memory
};

class KernelBench {
 public:
  virtual ~KernelBench() = default;
  virtual const DeviceInfo& device() const = 0;
  virtual const DevicePeak& peak() const = 0;
  virtual const std::vector<BenchRow>& rows() const = 0;
  // Times rows()[row]: a warm-up, then `repeats` measurements. Throws CudaError or OutOfMemory.
  virtual BenchTimes time(size_t row, int repeats) = 0;
};

// The launchers of kernels.h; naive: the `_naive` ones too. kFp16: those of fused/fused.h.
// `threads` as in EngineConfig. Throws Error(kUnavailable) if the target cannot be used.
std::unique_ptr<KernelBench> make_kernel_bench(Target target, bool naive, int threads,
                                               Math math = Math::kFp32);

// The operations of the native backend, one row for each pass; with_cudnn: each followed by a row
// of the same name and shape with what cuDNN or cuBLAS has for it. Convolutions run on filters
// already in the backend's layout. kFp16: the fused kernels of a training step, each followed by
// all that it does in place of the libraries, in FP16 too, one operation after the other. Throws
// Error(kUnavailable) where a target or backend cannot be used.
std::unique_ptr<KernelBench> make_comparison_bench(Target target, bool with_cudnn, int threads,
                                                   Math math = Math::kFp32);

inline constexpr int kStepBatch = 128;  // of the step, and of the epoch's steps

// The training step of the default model as `train` runs it: batches streamed from the host, the
// captured graph replayed. A launch is a step.
BenchRow step_row(BackendKind backend = BackendKind::kNative, Math math = Math::kFp32);
BenchTimes time_step(Target target, BackendKind backend, Math math, int repeats, int threads);

// An epoch as `train` runs it: 60,000 images in steps of kStepBatch, then 10,000 for validation. At
// least one, at most `repeats`, no new one after ten seconds.
BenchRow epoch_row(BackendKind backend = BackendKind::kNative, Math math = Math::kFp32);
BenchTimes time_epoch(Target target, BackendKind backend, Math math, int repeats, int threads);

// What training costs the thread that launches it, of our own code and in calls of the CUDA
// runtime: epochs of the default model as epoch_row() describes them, on the cpu target's runtime,
// which counts kernels and copies and drops them.
struct HostCosts {
  // A step, and an epoch beside its steps: order, sums, validation, read-back of the state.
  double seconds_per_step = 0, seconds_per_epoch = 0;
  // What a thread of its own does once an epoch.
  double order_seconds = 0, read_back_seconds = 0;
  struct Calls {
    std::string function;
    double per_step = 0, per_epoch = 0;
  };
  std::vector<Calls> calls;
  double nodes_per_step = 0, nodes_per_epoch = 0;  // of the graphs launched
};
HostCosts host_costs(Math math, int repeats);

}  // namespace mnist
