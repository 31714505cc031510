// What each target offers behind engine.h, bench.h and check.h. target_api.cpp fills the table,
// once per target; engine.cpp, bench/bench.cpp and check/check.cpp call it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/engine/bench.h"
#include "host/engine/check.h"
#include "host/engine/engine.h"

namespace mnist {

struct TargetApi {
  std::string (*unusable_reason)();  // empty: usable
  DeviceInfo (*device_info)();
  std::vector<DeviceInfo> (*devices)();
  std::string (*select_device)(int index);  // empty: done
  std::string (*math_unusable_reason)(const Model& model, const EngineConfig& config);
  std::unique_ptr<Engine> (*make_engine)(const Model& model, const EngineConfig& config);
  std::unique_ptr<KernelBench> (*make_kernel_bench)(bool naive, int threads, Math math);
  std::unique_ptr<KernelBench> (*make_comparison_bench)(bool with_cudnn, int threads, Math math);
  std::string (*cudnn_versions)();                                // throws Error(kUnavailable)
  std::vector<OperationDifference> (*check_backends)(Math math);  // throws Error(kUnavailable)
};

// Throws Error(kUnavailable) where the target cannot be used: the build lacks it, or the machine
// has no device for it.
const TargetApi& usable_target(Target target);

namespace cpu {
extern const TargetApi kTargetApi;
}
namespace cuda {
extern const TargetApi kTargetApi;  // where the build has the CUDA Toolkit
}

}  // namespace mnist
