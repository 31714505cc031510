#include "host/engine/cudnn.h"

#include "host/engine/target_api.h"
#include "host/error.h"

namespace mnist {

std::string cudnn_versions() {
#ifdef MNIST_HAVE_CUDNN
  return cuda::cudnn_versions();
#else
  throw Error(ExitCode::kUnavailable,
              "this cuda-mnist was built without the cudnn backend; install the CUDA Toolkit, "
              "cuBLAS and cuDNN 9, and build again");
#endif
}

std::string cudnn_unavailable_reason() {
  try {
    cudnn_versions();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace mnist
