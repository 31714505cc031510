#include "host/engine/check/check_backends.h"

#include "host/engine/backends/backends.h"

namespace mnist::MNIST_TARGET {

std::vector<OperationDifference> check_backends(Math math) {
  const auto native = make_backend(BackendKind::kNative);
  const auto cudnn = make_backend(BackendKind::kCudnn, {.fp16 = math == Math::kFp16});
  return differences(*native, *cudnn, check_cases(128));
}

}  // namespace mnist::MNIST_TARGET
