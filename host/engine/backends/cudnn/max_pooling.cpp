// Max pooling by cuDNN. The gradient goes to one position of each window (the deterministic mode),
// found by comparing x with y.
#include <limits>

#include "host/engine/backends/cudnn/ops.h"
#include "host/engine/backends/cudnn/padded_input.h"

namespace mnist::MNIST_TARGET::cudnn {
namespace {

struct PoolingPlan {
  PaddedInput input;
  Tensor y;
};

class MaxPooling final : public LayerOp {
 public:
  MaxPooling(std::shared_ptr<Context> context, std::string name, const PoolShape& shape, Mode mode)
      : LayerOp(std::move(name), int64_t(shape.p) * shape.q * shape.c, false, false),
        context_(std::move(context)),
        shape_(shape),
        mode_(mode),
        rows_{shape.h, shape.window_h, shape.stride_h, shape.pad_h, shape.p},
        columns_{shape.w, shape.window_w, shape.stride_w, shape.pad_w, shape.q},
        pooling_(make_pooling_mode(shape.window_h, shape.window_w, rows_.library_pad(),
                                   columns_.library_pad(), shape.stride_h, shape.stride_w)) {
    plan(shape.n, context_->setup());
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    const PoolingPlan& plan = planned(pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const float* input = plan.input.copy_in(cudnn, x);
    CUDNN_CHECK(cudnnPoolingForward(cudnn, pooling_.get(), &kOne, plan.input.tensor(), input,
                                    &kZero, plan.y.get(), y));
  }

  void backward_data(float* dx, const float* dy, const float* x, const float* y, bool gate,
                     const Pass& pass) override {
    const PoolingPlan& plan = planned(pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    CUDNN_CHECK(cudnnPoolingBackward(cudnn, pooling_.get(), &kOne, plan.y.get(), y, plan.y.get(),
                                     dy, plan.input.tensor(), plan.input.padded(x), &kZero,
                                     plan.input.tensor(), plan.input.padded_gradient(dx)));
    plan.input.copy_out(cudnn, dx);
    if (gate) context_->gate(cudnn, plan.input.original(), dx, x);
  }

 private:
  const PoolingPlan& planned(const Pass& pass) { return plan(pass.n, pass.stream); }
  const PoolingPlan& plan(int n, cudaStream_t stream) {
    return plans_.at(n, stream, [this](int batch) {
      return PoolingPlan{PaddedInput(*context_, batch, rows_, columns_, shape_.c,
                                     -std::numeric_limits<float>::infinity(), mode_),
                         make_tensor(batch, shape_.p, shape_.q, shape_.c)};
    });
  }

  const std::shared_ptr<Context> context_;
  const PoolShape shape_;
  const Mode mode_;
  const WindowAxis rows_, columns_;
  const PoolingMode pooling_;
  Plans<PoolingPlan> plans_;
};

}  // namespace

std::unique_ptr<LayerOp> make_max_pooling(std::shared_ptr<Context> context, std::string name,
                                          const PoolShape& shape, Mode mode) {
  return std::make_unique<MaxPooling>(std::move(context), std::move(name), shape, mode);
}

}  // namespace mnist::MNIST_TARGET::cudnn
