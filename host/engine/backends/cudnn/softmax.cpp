// Softmax by cuDNN, in the form that subtracts the largest logit first.
#include "host/engine/backends/cudnn/context.h"
#include "host/engine/backends/cudnn/ops.h"

namespace mnist::MNIST_TARGET::cudnn {

void softmax(Context& context, float* probabilities, const float* logits, int n, int classes,
             cudaStream_t stream) {
  const Tensor rows = make_tensor(n, 1, 1, classes);
  CUDNN_CHECK(cudnnSoftmaxForward(context.on(stream), CUDNN_SOFTMAX_ACCURATE,
                                  CUDNN_SOFTMAX_MODE_INSTANCE, &kOne, rows.get(), logits, &kZero,
                                  rows.get(), probabilities));
}

}  // namespace mnist::MNIST_TARGET::cudnn
