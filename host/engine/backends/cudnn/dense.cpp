// Dense layers as products by cuBLASLt, with bias and ReLU in the epilogue. In row-major terms
// y = x w, dx = dy w^T, dw = x^T dy; cuBLAS sees every tensor transposed, so the factors swap
// places: y^T [out,n] = w^T [out,in] x^T [in,n], and so on. In FP16 the factors alone are halves:
// cuBLASLt has products of halves with float32 sums, bias and result for all sizes (its reference,
// cublasLtMatmul(), table of data types).
#include <optional>

#include "host/engine/backends/cudnn/gemm.h"
#include "host/engine/backends/cudnn/library_tensor.h"
#include "host/engine/backends/cudnn/ops.h"

namespace mnist::MNIST_TARGET::cudnn {
namespace {

cublasLtEpilogue_t forward_epilogue(bool bias, bool relu) {
  if (bias) return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

struct DenseBackward {
  LibraryTensor dy_of_data, dy_of_filter;  // two, since both passes run at once
  Gemm data, filter;
  bool fused_bias;  // whether `filter` yields the bias gradient too
};

struct DensePlan {
  LibraryTensor x;
  Tensor y;
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
        precision_(context_->precision()),
        unscale_(precision_ == Precision::kHalf ? kGradientUnscale : 1),
        bias_(make_tensor(1, 1, 1, shape.out)),
        weights_(library_tensor(Content::kValues, in_, out_)) {
    plan(shape.n, context_->setup());
  }

  void load_weights(const Pass& pass) override {
    weights_.copy_in(*context_, offsets_.kernel_in(pass.weights), pass);
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    const DensePlan& plan = planned(pass);
    const void* input = plan.x.copy_in(*context_, x, pass);
    plan.forward.run(*context_, 1, y, weights_.get(offsets_.kernel_in(pass.weights)), input,
                     offsets_.bias_in(pass.weights), pass.stream);
  }

  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    const DensePlan& plan = planned(pass);
    const DenseBackward& backward = plan.backward.value();
    float* dbias = offsets_.bias_in(gradients);
    const void* by_output = backward.dy_of_filter.copy_in(*context_, dy, pass);
    backward.filter.run(*context_, unscale_, offsets_.kernel_in(gradients), by_output,
                        plan.x.get(x), backward.fused_bias ? dbias : nullptr, pass.stream);
    if (dbias != nullptr && !backward.fused_bias)
      CUDNN_CHECK(cudnnConvolutionBackwardBias(context_->on(pass.stream), &kOne, plan.y.get(), dy,
                                               &kZero, bias_.get(), dbias));
  }

  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    const DensePlan& plan = planned(pass);
    const DenseBackward& backward = plan.backward.value();
    const void* by_output = backward.dy_of_data.copy_in(*context_, dy, pass);
    backward.data.run(*context_, unscale_, dx, weights_.get(offsets_.kernel_in(pass.weights)),
                      by_output, nullptr, pass.stream);
    if (gate) context_->gate(context_->on(pass.stream), plan.x.original(), dx, x);
  }

 private:
  using Content = LibraryTensor::Content;

  LibraryTensor library_tensor(Content content, int rows, int columns) const {
    return LibraryTensor(*context_, precision_, content, rows, 1, 1, columns);
  }
  Gemm product(const Operand& a, const Operand& b, cublasLtEpilogue_t epilogue) const {
    return Gemm(*context_, a, b, precision_, epilogue);
  }

  DensePlan make_plan(int n) const {
    const Operand x{in_, n}, w{out_, in_}, dy{out_, n};
    const Operand x_transposed{in_, n, true}, w_transposed{out_, in_, true};
    DensePlan plan{library_tensor(Content::kValues, n, in_),
                   make_tensor(n, 1, 1, out_),
                   product(w, x, forward_epilogue(offsets_.has_bias(), ends_in_relu)),
                   {}};
    if (mode_ == Mode::kInference) return plan;
    // Not every GPU's cuBLASLt sums a factor's columns beside the product: cuDNN does it then. So
    // it does in FP16, from dy in float32.
    const bool fuse_bias = offsets_.has_bias() && precision_ == Precision::kFloat;
    Gemm fused =
        product(dy, x_transposed, fuse_bias ? CUBLASLT_EPILOGUE_BGRADA : CUBLASLT_EPILOGUE_DEFAULT);
    const bool fused_bias = fuse_bias && fused.supported();
    plan.backward = DenseBackward{
        library_tensor(Content::kGradient, n, out_), library_tensor(Content::kGradient, n, out_),
        product(w_transposed, dy, CUBLASLT_EPILOGUE_DEFAULT),
        fused.supported() ? std::move(fused) : product(dy, x_transposed, CUBLASLT_EPILOGUE_DEFAULT),
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
  const Precision precision_;
  const float unscale_;  // what a product with dy is multiplied by
  const Tensor bias_;
  const LibraryTensor weights_;
  Plans<DensePlan> plans_;
};

}  // namespace

std::unique_ptr<LayerOp> make_dense(std::shared_ptr<Context> context, std::string name,
                                    const DenseShape& shape, const ParameterOffsets& offsets,
                                    bool relu, Mode mode) {
  return std::make_unique<Dense>(std::move(context), std::move(name), shape, offsets, relu, mode);
}

}  // namespace mnist::MNIST_TARGET::cudnn
