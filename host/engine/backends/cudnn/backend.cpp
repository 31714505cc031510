#include "host/engine/backends/cudnn/backend.h"

#include <stdexcept>

#include "host/engine/backends/backends.h"
#include "host/engine/backends/cudnn/loader.h"
#include "host/error.h"
#include "kernels/check.h"

namespace mnist::MNIST_TARGET {
namespace {

class CudnnBackend final : public Backend {
 public:
  explicit CudnnBackend(std::unique_ptr<CudnnLibrary> library) : library_(std::move(library)) {}

  std::vector<std::unique_ptr<LayerOp>> layer_ops(const Model& model, int max_batch, Mode mode,
                                                  uint64_t seed) override {
    std::vector<std::unique_ptr<LayerOp>> ops;
    for (int i = 0; i < int(model.layers.size()); ++i) {
      std::unique_ptr<LayerOp> op = model.layers[size_t(i)].kind == LayerKind::kDropout
                                        ? make_dropout_op(model, i, mode, seed)
                                        : library_->layer_op(model, i, max_batch, mode);
      if (op != nullptr) ops.push_back(std::move(op));
    }
    return ops;
  }

  void softmax(float* probabilities, const float* logits, int n, int classes,
               cudaStream_t stream) override {
    library_->softmax(probabilities, logits, n, classes, stream);
  }

 private:
  const std::unique_ptr<CudnnLibrary> library_;
};

}  // namespace

std::unique_ptr<Backend> make_cudnn_backend(std::unique_ptr<CudnnLibrary> library) {
  return std::make_unique<CudnnBackend>(std::move(library));
}

std::unique_ptr<Backend> make_cudnn_backend(const CudnnOptions& options) {
  const CudnnModule& module = load_cudnn_module();
  try {
    CudnnOptions here = options;
    CUDA_CHECK(cudaGetDevice(&here.device));
    return make_cudnn_backend(module.open(here));
  } catch (const std::runtime_error& error) {  // a part of cuDNN is missing, or the GPU too old
    throw Error(ExitCode::kUnavailable, std::string("the cudnn backend does not start (") +
                                            module.versions() + "): " + error.what());
  }
}

}  // namespace mnist::MNIST_TARGET
