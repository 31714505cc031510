// The two targets' implementations of host/engine/engine.h, host/engine/bench.h and
// host/engine/check.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/engine/bench.h"
#include "host/engine/check.h"
#include "host/engine/engine.h"

#define MNIST_DECLARE_TARGET(target)                                                   \
  namespace mnist::target {                                                            \
  std::string unusable_reason();                                                       \
  DeviceInfo device_info();                                                            \
  std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config); \
  std::unique_ptr<KernelBench> make_kernel_bench(bool plain, int threads);             \
  std::unique_ptr<KernelBench> make_comparison_bench(bool with_cudnn, int threads);    \
  }

MNIST_DECLARE_TARGET(cpu)
MNIST_DECLARE_TARGET(cuda)

namespace mnist::cuda {
// Where the build has the cudnn backend:
std::string cudnn_versions();                       // of host/engine/cudnn.h
std::vector<OperationDifference> check_backends();  // of host/engine/check.h
}  // namespace mnist::cuda

#undef MNIST_DECLARE_TARGET
