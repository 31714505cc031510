#include "host/engine/engine.h"

#include "host/engine/target_api.h"
#include "host/error.h"

namespace mnist {

namespace {

// Null: the build lacks the target.
const TargetApi* find_target(Target target) {
  if (target == Target::kCpu) return &cpu::kTargetApi;
#ifdef MNIST_HAVE_CUDA
  return &cuda::kTargetApi;
#else
  return nullptr;
#endif
}

constexpr const char* kNoCuda =
    "this cuda-mnist was built without the CUDA Toolkit; install it and build again";

}  // namespace

std::string unusable_reason(Target target) {
  const TargetApi* api = find_target(target);
  return api == nullptr ? kNoCuda : api->unusable_reason();
}

const TargetApi& usable_target(Target target) {
  const std::string reason = unusable_reason(target);
  if (!reason.empty()) throw Error(ExitCode::kUnavailable, reason);
  return *find_target(target);
}

DeviceInfo device_info(Target target) {
  return usable_target(target).device_info();
}

std::vector<DeviceInfo> devices(Target target) {
  const TargetApi* api = find_target(target);
  return api == nullptr ? std::vector<DeviceInfo>() : api->devices();
}

std::string select_device(Target target, int index) {
  const TargetApi* api = find_target(target);
  return api == nullptr ? kNoCuda : api->select_device(index);
}

std::string math_unusable_reason(Target target, const Model& model, const EngineConfig& config) {
  return usable_target(target).math_unusable_reason(model, config);
}

std::unique_ptr<Engine> make_engine(Target target, const Model& model, const EngineConfig& config) {
  const TargetApi& api = usable_target(target);
  if (config.backend == BackendKind::kCudnn) {
    const std::string reason = target == Target::kCpu
                                   ? "the cudnn backend needs an NVIDIA GPU; use the native one"
                                   : cudnn_unusable_reason();
    if (!reason.empty()) throw Error(ExitCode::kUnavailable, reason);
  }
  return api.make_engine(model, config);
}

std::string cudnn_versions() {
  // A build without CUDA knows as well as the cpu target that there is no cudnn backend.
  const TargetApi* cuda = find_target(Target::kCuda);
  return (cuda != nullptr ? *cuda : cpu::kTargetApi).cudnn_versions();
}

std::string cudnn_unusable_reason() {
  try {
    cudnn_versions();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string compiled_architectures() {
  return MNIST_CUDA_ARCHITECTURES;
}

}  // namespace mnist
