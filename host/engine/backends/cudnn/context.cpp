#include "host/engine/backends/cudnn/context.h"

#include "host/engine/backends/cudnn/ops.h"

namespace mnist::MNIST_TARGET::cudnn {

std::shared_ptr<Context> make_context(const CudnnOptions& options) {
  return std::make_shared<Context>(options);
}

cudnnHandle_t Context::on(cudaStream_t stream) {
  Owned<cudnnHandle_t>& handle = handles_[stream];
  if (handle == nullptr) handle = make_cudnn();
  CUDNN_CHECK(cudnnSetStream(handle.get(), stream));
  return handle.get();
}

void Context::gate(cudnnHandle_t cudnn, cudnnTensorDescriptor_t shape, float* dx,
                   const float* x) const {
  CUDNN_CHECK(cudnnActivationBackward(cudnn, relu_.get(), &kOne, shape, x, shape, dx, shape, x,
                                      &kZero, shape, dx));
}

}  // namespace mnist::MNIST_TARGET::cudnn
