#include "host/engine/backends/backends.h"

#include "host/error.h"

#ifdef MNIST_HAVE_CUDNN
#include "host/engine/backends/cudnn/backend.h"
#include "host/engine/backends/cudnn/loader.h"
#endif

namespace mnist::MNIST_TARGET {
namespace {

// make_cudnn_backend() and the module's versions, or the reason why there are none.
#ifdef MNIST_HAVE_CUDNN

std::unique_ptr<Backend> make_cudnn(const BackendOptions& options) {
  return make_cudnn_backend({.timed_search = options.timed_search, .fp16 = options.fp16});
}
std::string versions() {
  return load_cudnn_module().versions();
}

#else

[[noreturn]] void fail() {
  throw Error(ExitCode::kUnavailable,
              "this cuda-mnist was built without the cudnn backend; install the CUDA Toolkit, "
              "cuBLAS and cuDNN 9, and build again");
}
std::unique_ptr<Backend> make_cudnn(const BackendOptions&) {
  fail();
}
std::string versions() {
  fail();
}

#endif

}  // namespace

std::unique_ptr<Backend> make_backend(BackendKind kind, const BackendOptions& options) {
  switch (kind) {
    case BackendKind::kNative:
      return make_native_backend();
    case BackendKind::kCudnn:
      return make_cudnn(options);
  }
  throw Error(ExitCode::kInternal, "there is no such backend");
}

std::string cudnn_versions() {
  return versions();
}

}  // namespace mnist::MNIST_TARGET
