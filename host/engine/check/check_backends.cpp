#include "host/engine/check.h"

#include "host/engine/cudnn.h"
#include "host/engine/engine.h"
#include "host/engine/target_api.h"
#include "host/error.h"

namespace mnist {

std::vector<OperationDifference> check_backends() {
  std::string reason = unusable_reason(Target::kCuda);
  if (reason.empty()) reason = cudnn_unavailable_reason();
  if (!reason.empty()) throw Error(ExitCode::kUnavailable, "check-backends: " + reason);
#ifdef MNIST_HAVE_CUDNN
  return cuda::check_backends();
#else
  throw Error(ExitCode::kInternal, "check-backends: there is no cudnn backend");
#endif
}

}  // namespace mnist
