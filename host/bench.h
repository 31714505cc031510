// Timings: every launcher of kernels.h on its own, and the whole training step. Plain C++; the
// kernels' part is implemented once per target, in engine/.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "host/engine.h"

namespace mnist {

// What one row of the benchmark does.
struct BenchRow {
  std::string name;     // the launcher, without namespace and `_naive`; or "step"
  std::string shape;    // "128x13x13x32 3x3x64"
  std::string backend;  // "native"; "plain": the launcher's `_naive` twin
  double flops = 0;     // a multiplication with an addition counts as two; 0: not counted
};

struct BenchTimes {
  double bytes = 0;  // that a launch must move: inputs once, outputs once; 0: not counted
  int launches = 0;  // in each repeat, one after the other
  std::vector<double> seconds;  // per launch, of each repeat
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
  // Times rows()[row]: a warm-up, then `repeats` measurements. Throws CudaError.
  virtual BenchTimes time(size_t row, int repeats) = 0;
};

// `plain`: the `_naive` launchers too. `threads` as in EngineConfig. Throws Error(kUnavailable) if
// the target cannot be used.
std::unique_ptr<KernelBench> make_kernel_bench(Target target, bool plain, int threads);

// The training step of the default model at batch 128, as `train` runs it: batches streamed from
// the host, the captured graph replayed. A launch is a step.
BenchRow step_row();
BenchTimes time_step(Target target, int repeats, int threads);

}  // namespace mnist
