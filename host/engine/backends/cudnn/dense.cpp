// Dense layers as products by cuBLASLt, with bias and ReLU in the epilogue. In row-major terms
// y = x w, dx = dy w^T, dw = x^T dy; cuBLAS sees every tensor transposed, so the factors swap
// places: y^T [out,n] = w^T [out,in] x^T [in,n], and so on.
#include "host/engine/backends/cudnn/gemm.h"
#include "host/engine/backends/cudnn/ops.h"

namespace mnist::MNIST_TARGET::cudnn {
namespace {

cublasLtEpilogue_t forward_epilogue(bool bias, bool relu) {
  if (bias) return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

struct DenseBackward {
  Gemm data, filter;
  bool fused_bias;  // whether `filter` yields the bias gradient too
};

struct DensePlan {
  Tensor x, y;
  Gemm forward;
  std::optional<DenseBackward> backward;
};

class Dense final : public LayerOp {
 public:
  Dense(std::shared_ptr<Context> context, std::string name, const DenseShape& shape,
        const ParameterOffsets& offsets, bool relu, Mode mode)
      : LayerOp(std::move(name), shape.out, relu, true),
        context_(std::move(context)),
        in_(shape.in),
        out_(shape.out),
        offsets_(offsets),
        mode_(mode),
        bias_(make_tensor(1, 1, 1, shape.out)) {
    plan(shape.n, context_->setup());
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    const float* bias = offsets_.bias_in(pass.weights);
    planned(pass).forward.run(*context_, y, offsets_.kernel_in(pass.weights), x, bias, pass.stream);
  }

  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    const DensePlan& plan = planned(pass);
    const DenseBackward& backward = plan.backward.value();
    float* dbias = offsets_.bias_in(gradients);
    backward.filter.run(*context_, offsets_.kernel_in(gradients), dy, x,
                        backward.fused_bias ? dbias : nullptr, pass.stream);
    if (dbias != nullptr && !backward.fused_bias)
      CUDNN_CHECK(cudnnConvolutionBackwardBias(context_->on(pass.stream), &kOne, plan.y.get(), dy,
                                               &kZero, bias_.get(), dbias));
  }

  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    const DensePlan& plan = planned(pass);
    plan.backward.value().data.run(*context_, dx, offsets_.kernel_in(pass.weights), dy, nullptr,
                                   pass.stream);
    if (gate) context_->gate(context_->on(pass.stream), plan.x.get(), dx, x);
  }

 private:
  DensePlan make_plan(int n) const {
    const Operand x{in_, n}, w{out_, in_}, dy{out_, n};
    const Operand x_transposed{in_, n, true}, w_transposed{out_, in_, true};
    DensePlan plan{make_tensor(n, 1, 1, in_),
                   make_tensor(n, 1, 1, out_),
                   Gemm(*context_, w, x, forward_epilogue(offsets_.has_bias(), ends_in_relu)),
                   {}};
    if (mode_ == Mode::kInference) return plan;
    // Not every GPU's cuBLASLt sums a factor's columns beside the product: cuDNN does it then.
    Gemm fused(*context_, dy, x_transposed,
               offsets_.has_bias() ? CUBLASLT_EPILOGUE_BGRADA : CUBLASLT_EPILOGUE_DEFAULT);
    const bool fused_bias = offsets_.has_bias() && fused.supported();
    plan.backward = DenseBackward{
        Gemm(*context_, w_transposed, dy, CUBLASLT_EPILOGUE_DEFAULT),
        fused.supported() ? std::move(fused)
                          : Gemm(*context_, dy, x_transposed, CUBLASLT_EPILOGUE_DEFAULT),
        fused_bias};
    return plan;
  }

  const DensePlan& planned(const Pass& pass) { return plan(pass.n, pass.stream); }
  const DensePlan& plan(int n, cudaStream_t stream) {
    return plans_.at(n, stream, [this](int batch) { return make_plan(batch); });
  }

  const std::shared_ptr<Context> context_;
  const int in_, out_;
  const ParameterOffsets offsets_;
  const Mode mode_;
  const Tensor bias_;
  Plans<DensePlan> plans_;
};

}  // namespace

std::unique_ptr<LayerOp> make_dense(std::shared_ptr<Context> context, std::string name,
                                    const DenseShape& shape, const ParameterOffsets& offsets,
                                    bool relu, Mode mode) {
  return std::make_unique<Dense>(std::move(context), std::move(name), shape, offsets, relu, mode);
}

}  // namespace mnist::MNIST_TARGET::cudnn
