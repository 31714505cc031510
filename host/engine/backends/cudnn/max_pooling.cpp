// Max pooling by cuDNN. The gradient goes to one position of each window (the deterministic mode),
// found by comparing x with y.
#include <limits>
#include <optional>

#include "host/engine/backends/cudnn/library_tensor.h"
#include "host/engine/backends/cudnn/ops.h"

namespace mnist::MNIST_TARGET::cudnn {
namespace {

struct PoolingPlan {
  LibraryTensor x;
  Tensor y;
  std::optional<LibraryTensor> dx;  // in training
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
    const void* input = plan.x.copy_in(*context_, x, pass);
    CUDNN_CHECK(cudnnPoolingForward(context_->on(pass.stream), pooling_.get(), &kOne,
                                    plan.x.tensor(), input, &kZero, plan.y.get(), y));
  }

  void backward_data(float* dx, const float* dy, const float* x, const float* y, bool gate,
                     const Pass& pass) override {
    const PoolingPlan& plan = planned(pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const LibraryTensor& gradient = plan.dx.value();
    CUDNN_CHECK(cudnnPoolingBackward(cudnn, pooling_.get(), &kOne, plan.y.get(), y, plan.y.get(),
                                     dy, plan.x.tensor(), plan.x.get(x), &kZero, gradient.tensor(),
                                     gradient.place(dx)));
    gradient.copy_out(*context_, dx, pass);
    if (gate) context_->gate(cudnn, plan.x.original(), dx, x);
  }

 private:
  const PoolingPlan& planned(const Pass& pass) { return plan(pass.n, pass.stream); }
  const PoolingPlan& plan(int n, cudaStream_t stream) {
    return plans_.at(n, stream, [this](int batch) {
      const auto input = [&](LibraryTensor::Content content) {
        return LibraryTensor(*context_, Precision::kFloat, content, batch, rows_, columns_,
                             shape_.c, -std::numeric_limits<float>::infinity());
      };
      PoolingPlan plan{input(LibraryTensor::Content::kValues),
                       make_tensor(batch, shape_.p, shape_.q, shape_.c),
                       {}};
      if (mode_ == Mode::kTraining) plan.dx = input(LibraryTensor::Content::kGradient);
      return plan;
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
