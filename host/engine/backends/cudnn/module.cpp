// The module's one exported symbol: layers of a model to ops, by kind.
#include "host/engine/backends/cudnn/module.h"

#include "host/engine/backends/cudnn/check.h"
#include "host/engine/backends/cudnn/ops.h"
#include "host/engine/backends/layer_shapes.h"
#include "kernels/check.h"

namespace mnist::MNIST_TARGET {
namespace {

class Library final : public CudnnLibrary {
 public:
  explicit Library(const CudnnOptions& options) : context_(cudnn::make_context(options)) {}

  std::unique_ptr<LayerOp> layer_op(const Model& model, int index, int max_batch,
                                    Mode mode) override {
    const Layer& layer = model.layers[size_t(index)];
    const bool relu = layer.activation == Activation::kRelu;
    switch (layer.kind) {
      case LayerKind::kConv2D:
        return cudnn::make_convolution(context_, layer.name, conv_shape(layer, max_batch),
                                       ParameterOffsets(model, index), relu, mode);
      case LayerKind::kMaxPool2D:
        return cudnn::make_max_pooling(context_, layer.name, pool_shape(layer, max_batch), mode);
      case LayerKind::kDense:
        return cudnn::make_dense(context_, layer.name, dense_shape(layer, max_batch),
                                 ParameterOffsets(model, index), relu, mode);
      case LayerKind::kFlatten:
      case LayerKind::kDropout:
        break;
    }
    return nullptr;
  }

  void softmax(float* probabilities, const float* logits, int n, int classes,
               cudaStream_t stream) override {
    cudnn::softmax(*context_, probabilities, logits, n, classes, stream);
  }

 private:
  const std::shared_ptr<cudnn::Context> context_;
};

std::string version_text(size_t version, size_t major_unit) {
  return std::to_string(version / major_unit) + '.' + std::to_string(version % major_unit / 100) +
         '.' + std::to_string(version % 100);
}

std::string versions() {
  return "cuDNN " + version_text(cudnnGetVersion(), 10000) + ", cuBLAS " +
         version_text(cublasLtGetVersion(), 10000);
}

std::unique_ptr<CudnnLibrary> open(const CudnnOptions& options) {
  CUDA_CHECK(cudaSetDevice(options.device));
  return std::make_unique<Library>(options);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET

extern "C" __attribute__((visibility("default")))
const mnist::MNIST_TARGET::CudnnModule cuda_mnist_cudnn_module = {
    mnist::MNIST_TARGET::kCudnnModuleAbi, mnist::MNIST_TARGET::versions, mnist::MNIST_TARGET::open};
