// The two targets' implementations of host/engine.h and host/bench.h.
#pragma once

#include <memory>
#include <string>

#include "host/bench.h"
#include "host/engine.h"

#define MNIST_DECLARE_TARGET(target)                                                   \
  namespace mnist::target {                                                            \
  std::string unusable_reason();                                                       \
  DeviceInfo device_info();                                                            \
  std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config); \
  std::unique_ptr<KernelBench> make_kernel_bench(bool plain, int threads);             \
  }

MNIST_DECLARE_TARGET(cpu)
MNIST_DECLARE_TARGET(cuda)

namespace mnist::cuda {
std::string cudnn_versions();  // of host/cudnn.h; where the build has the cudnn backend
}

#undef MNIST_DECLARE_TARGET
