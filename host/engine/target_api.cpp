#include "host/engine/engine.h"

#include "host/engine/cudnn.h"
#include "host/engine/target_api.h"
#include "host/error.h"

namespace mnist {

std::string unusable_reason(Target target) {
  if (target == Target::kCpu) return cpu::unusable_reason();
#ifdef MNIST_HAVE_CUDA
  return cuda::unusable_reason();
#else
  return "this cuda-mnist was built without the CUDA Toolkit; install it and build again";
#endif
}

DeviceInfo device_info(Target target) {
  const std::string reason = unusable_reason(target);
  if (!reason.empty()) throw Error(ExitCode::kUnavailable, reason);
#ifdef MNIST_HAVE_CUDA
  if (target == Target::kCuda) return cuda::device_info();
#endif
  return cpu::device_info();
}

std::unique_ptr<Engine> make_engine(Target target, const Model& model, const EngineConfig& config) {
  std::string reason = unusable_reason(target);
  if (reason.empty() && config.backend == BackendKind::kCudnn)
    reason = target == Target::kCpu ? "the cudnn backend needs an NVIDIA GPU; use the native one"
                                    : cudnn_unavailable_reason();
  if (!reason.empty()) throw Error(ExitCode::kUnavailable, reason);
#ifdef MNIST_HAVE_CUDA
  if (target == Target::kCuda) return cuda::make_engine(model, config);
#endif
  return cpu::make_engine(model, config);
}

std::string compiled_architectures() {
#ifdef MNIST_HAVE_CUDA
  return MNIST_CUDA_ARCHITECTURES;
#else
  return "";
#endif
}

}  // namespace mnist
