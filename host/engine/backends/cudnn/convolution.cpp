// Convolutions by cuDNN: bias and ReLU fused into the forward pass where both are there. The arena
// holds filters as [R,S,C,K]; cuDNN wants [K,R,S,C]. So the op keeps transposed copies of filter
// and gradient: load_weights() and store_gradients() are one matrix transposition each.
//
// FP16 is what cuDNN's reference calls PSEUDO_HALF_CONFIG: input, filter, output and the bias of a
// fused call are halves, sums are float32. It names what its tensor cores ask for
// (docs.nvidia.com/deeplearning/cudnn, Legacy API, Convolution Functions): the math type set before
// the search, and, with NHWC, packed tensors aligned to 16 bytes. Channels it pads by itself.
#include <optional>
#include <string>
#include <vector>

#include "host/engine/backends/cudnn/gemm.h"
#include "host/engine/backends/cudnn/library_tensor.h"
#include "host/engine/backends/cudnn/ops.h"

namespace mnist::MNIST_TARGET::cudnn {
namespace {

// Workspaces above this are not worth the speed.
constexpr size_t kWorkspaceLimit = size_t{1} << 30;

// One of the three passes as cuDNN is to run it.
template <typename Algorithm>
struct PlannedPass {
  ConvolutionMode mode;
  Algorithm algorithm;
  DeviceBuffer<unsigned char> workspace;
};

struct ConvolutionBackward {
  LibraryTensor dx;
  LibraryTensor dy_of_data, dy_of_filter;  // two, since both passes run at once
  PlannedPass<cudnnConvolutionBwdDataAlgo_t> data;
  PlannedPass<cudnnConvolutionBwdFilterAlgo_t> filter;
};

struct ConvolutionPlan {
  LibraryTensor x, y;
  PlannedPass<cudnnConvolutionFwdAlgo_t> forward;
  std::optional<ConvolutionBackward> backward;
  std::optional<bool> fused;  // whether cuDNN takes bias and ReLU too; known after the first run
};

// Whether an algorithm computes what is asked for; the searches propose other arithmetic too.
// Products of halves are exact in float32, so that tensor cores and other units are alike.
bool computes(cudnnMathType_t math, Precision precision) {
  return precision == Precision::kHalf ? math != CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION
                                       : math == CUDNN_FMA_MATH;
}

// The first of cuDNN's proposals, fastest first, that gives the same bits every time.
template <typename Proposal>
const Proposal& choose(const std::vector<Proposal>& proposals, Precision precision,
                       const std::string& what) {
  for (const Proposal& p : proposals) {
    if (p.status == CUDNN_STATUS_SUCCESS && p.determinism == CUDNN_DETERMINISTIC &&
        computes(p.mathType, precision) && p.memory <= kWorkspaceLimit)
      return p;
  }
  throw CudnnError(CUDNN_STATUS_NOT_SUPPORTED,
                   what + ": cuDNN has no deterministic " +
                       (precision == Precision::kHalf ? "FP16" : "float32") +
                       " algorithm for this shape");
}

class Convolution final : public LayerOp {
 public:
  Convolution(std::shared_ptr<Context> context, std::string op_name, const ConvShape& shape,
              const ParameterOffsets& offsets, bool relu, Mode mode, Precision precision)
      : LayerOp(std::move(op_name), int64_t(shape.p) * shape.q * shape.k, relu, true),
        context_(std::move(context)),
        shape_(shape),
        offsets_(offsets),
        mode_(mode),
        precision_(precision),
        rows_{shape.h, shape.r, shape.stride_h, shape.pad_h, shape.p},
        columns_{shape.w, shape.s, shape.stride_w, shape.pad_w, shape.q},
        filter_(make_filter(shape.k, shape.r, shape.s, shape.c, precision)),
        bias_(unpadded(Content::kValues, 1, 1, 1, shape.k)),
        to_library_(shape.r * shape.s * shape.c, shape.k),
        to_arena_(shape.k, shape.r * shape.s * shape.c),
        krsc_(shape.filter_size()),
        weights_(unpadded(Content::kValues, shape.k, shape.r, shape.s, shape.c)) {
    if (mode == Mode::kTraining) {
      krsc_gradient_ = DeviceBuffer<float>(shape.filter_size());
      gradient_ = unpadded(Content::kGradient, shape.k, shape.r, shape.s, shape.c);
    }
    plan(shape.n, context_->setup());
  }

  void load_weights(const Pass& pass) override {
    if (pass.kept) return;
    to_library_.run(*context_, krsc_.data(), offsets_.kernel_in(pass.weights), pass.stream);
    weights_.copy_in(*context_, krsc_.data(), pass);
    if (offsets_.has_bias()) bias_.copy_in(*context_, offsets_.bias_in(pass.weights), pass);
  }
  void store_gradients(float* gradients, const Pass& pass) override {
    if (pass.kept) return;
    gradient_->copy_out(*context_, krsc_gradient_.data(), pass);
    to_arena_.run(*context_, offsets_.kernel_in(gradients), krsc_gradient_.data(), pass.stream);
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    ConvolutionPlan& plan = planned(pass);
    const void* input = plan.x.copy_in(*context_, x, pass);
    const void* weights = weights_.get(krsc_.data());
    const float* bias = offsets_.bias_in(pass.weights);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const auto& [mode, algorithm, workspace] = plan.forward;
    if (bias != nullptr && ends_in_relu && plan.fused.value_or(true)) {
      const cudnnStatus_t status = cudnnConvolutionBiasActivationForward(
          cudnn, &kOne, plan.x.tensor(), input, filter_.get(), weights, mode.get(), algorithm,
          workspace.data(), workspace.bytes(), &kZero, plan.y.tensor(), plan.y.place(y),
          bias_.tensor(), bias_.get(bias), context_->relu(), plan.y.tensor(), plan.y.place(y));
      // The algorithm was proposed for the convolution alone: cuDNN may not have it with bias and
      // ReLU, which only a call tells. A plan's first run, which no graph records, settles it.
      if (!plan.fused) plan.fused = CUDNN_STATUS_CATEGORY(status) != CUDNN_STATUS_NOT_SUPPORTED;
      if (*plan.fused) {
        cudnn_check(status, "cudnnConvolutionBiasActivationForward", __FILE__, __LINE__);
        plan.y.copy_out(*context_, y, pass);
        return;
      }
    }
    CUDNN_CHECK(cudnnConvolutionForward(
        cudnn, &kOne, plan.x.tensor(), input, filter_.get(), weights, mode.get(), algorithm,
        workspace.data(), workspace.bytes(), &kZero, plan.y.tensor(), plan.y.place(y)));
    plan.y.copy_out(*context_, y, pass);
    const cudnnTensorDescriptor_t shape = plan.y.original();
    if (bias != nullptr)
      CUDNN_CHECK(cudnnAddTensor(cudnn, &kOne, bias_.original(), bias, &kOne, shape, y));
    if (ends_in_relu)
      CUDNN_CHECK(
          cudnnActivationForward(cudnn, context_->relu(), &kOne, shape, y, &kZero, shape, y));
  }

  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    const ConvolutionPlan& plan = planned(pass);
    const ConvolutionBackward& backward = plan.backward.value();
    const void* by_output = backward.dy_of_filter.copy_in(*context_, dy, pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const auto& [mode, algorithm, workspace] = backward.filter;
    CUDNN_CHECK(cudnnConvolutionBackwardFilter(
        cudnn, &kOne, plan.x.tensor(), plan.x.get(x), backward.dy_of_filter.tensor(), by_output,
        mode.get(), algorithm, workspace.data(), workspace.bytes(), &kZero, filter_.get(),
        gradient_->place(krsc_gradient_.data())));
    if (offsets_.has_bias())
      CUDNN_CHECK(cudnnConvolutionBackwardBias(cudnn, &kOne, plan.y.original(), dy, &kZero,
                                               bias_.original(), offsets_.bias_in(gradients)));
  }

  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    const ConvolutionPlan& plan = planned(pass);
    const ConvolutionBackward& backward = plan.backward.value();
    const void* by_output = backward.dy_of_data.copy_in(*context_, dy, pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const auto& [mode, algorithm, workspace] = backward.data;
    CUDNN_CHECK(cudnnConvolutionBackwardData(
        cudnn, &kOne, filter_.get(), weights_.get(krsc_.data()), backward.dy_of_data.tensor(),
        by_output, mode.get(), algorithm, workspace.data(), workspace.bytes(), &kZero,
        backward.dx.tensor(), backward.dx.place(dx)));
    backward.dx.copy_out(*context_, dx, pass);
    if (gate) context_->gate(cudnn, plan.x.original(), dx, x);
  }

 private:
  using Content = LibraryTensor::Content;

  LibraryTensor unpadded(Content content, int n, int h, int w, int c) const {
    return LibraryTensor(*context_, precision_, content, n, h, w, c);
  }

  // The search proposes tensor cores only if this mode, which it is given, allows them.
  ConvolutionMode make_mode() const {
    return make_convolution_mode(
        rows_.library_pad(), columns_.library_pad(), shape_.stride_h, shape_.stride_w,
        precision_ == Precision::kHalf ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH);
  }

  // propose(count, &found, proposals) and workspace_size(algorithm, &bytes), in the given mode.
  template <typename Proposal, typename Propose, typename WorkspaceSize>
  auto make_pass(int count, const char* pass, const Propose& propose,
                 const WorkspaceSize& workspace_size) const {
    ConvolutionMode mode = make_mode();
    std::vector<Proposal> proposals(size_t(2 * count));  // each algorithm in two kinds of math
    int found = 0;
    propose(mode.get(), int(proposals.size()), &found, proposals.data());
    proposals.resize(size_t(found));
    const Proposal& chosen = choose(proposals, precision_, name + ' ' + pass);
    CUDNN_CHECK(cudnnSetConvolutionMathType(mode.get(), chosen.mathType));
    size_t bytes = 0;
    workspace_size(mode.get(), chosen.algo, &bytes);
    return PlannedPass<decltype(chosen.algo)>{std::move(mode), chosen.algo,
                                              DeviceBuffer<unsigned char>(bytes)};
  }

  ConvolutionPlan make_plan(int n) const {
    const auto input = [&](Content content) {
      return LibraryTensor(*context_, precision_, content, n, rows_, columns_, shape_.c);
    };
    const auto output = [&](Content content) {
      return unpadded(content, n, shape_.p, shape_.q, shape_.k);
    };
    ConvolutionPlan plan{input(Content::kValues), output(Content::kValues), {}, {}, {}};
    const cudnnHandle_t cudnn = context_->on(context_->setup());
    const bool timed = context_->options().timed_search;
    const cudnnTensorDescriptor_t x = plan.x.tensor(), y = plan.y.tensor();
    const cudnnFilterDescriptor_t w = filter_.get();

    plan.forward = make_pass<cudnnConvolutionFwdAlgoPerf_t>(
        CUDNN_CONVOLUTION_FWD_ALGO_COUNT, "forward",
        [&](auto mode, int count, int* found, auto* proposals) {
          if (timed)
            CUDNN_CHECK(cudnnFindConvolutionForwardAlgorithm(cudnn, x, w, mode, y, count, found,
                                                             proposals));
          else
            CUDNN_CHECK(cudnnGetConvolutionForwardAlgorithm_v7(cudnn, x, w, mode, y, count, found,
                                                               proposals));
        },
        [&](auto mode, auto algorithm, size_t* bytes) {
          CUDNN_CHECK(
              cudnnGetConvolutionForwardWorkspaceSize(cudnn, x, w, mode, y, algorithm, bytes));
        });
    if (mode_ == Mode::kInference) return plan;

    auto data = make_pass<cudnnConvolutionBwdDataAlgoPerf_t>(
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, "backward data",
        [&](auto mode, int count, int* found, auto* proposals) {
          if (timed)
            CUDNN_CHECK(cudnnFindConvolutionBackwardDataAlgorithm(cudnn, w, y, mode, x, count,
                                                                  found, proposals));
          else
            CUDNN_CHECK(cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnn, w, y, mode, x, count,
                                                                    found, proposals));
        },
        [&](auto mode, auto algorithm, size_t* bytes) {
          CUDNN_CHECK(
              cudnnGetConvolutionBackwardDataWorkspaceSize(cudnn, w, y, mode, x, algorithm, bytes));
        });
    auto filter = make_pass<cudnnConvolutionBwdFilterAlgoPerf_t>(
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, "backward filter",
        [&](auto mode, int count, int* found, auto* proposals) {
          if (timed)
            CUDNN_CHECK(cudnnFindConvolutionBackwardFilterAlgorithm(cudnn, x, y, mode, w, count,
                                                                    found, proposals));
          else
            CUDNN_CHECK(cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnn, x, y, mode, w, count,
                                                                      found, proposals));
        },
        [&](auto mode, auto algorithm, size_t* bytes) {
          CUDNN_CHECK(cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnn, x, y, mode, w,
                                                                     algorithm, bytes));
        });
    plan.backward =
        ConvolutionBackward{input(Content::kGradient), output(Content::kGradient),
                            output(Content::kGradient), std::move(data), std::move(filter)};
    return plan;
  }

  ConvolutionPlan& planned(const Pass& pass) { return plan(pass.n, pass.stream); }
  ConvolutionPlan& plan(int n, cudaStream_t stream) {
    return plans_.at(n, stream, [this](int batch) { return make_plan(batch); });
  }

  const std::shared_ptr<Context> context_;
  const ConvShape shape_;
  const ParameterOffsets offsets_;
  const Mode mode_;
  const Precision precision_;
  const WindowAxis rows_, columns_;
  const Filter filter_;
  const LibraryTensor bias_;
  const Transposition to_library_, to_arena_;
  const DeviceBuffer<float> krsc_;  // the filter, [K,R,S,C]
  const LibraryTensor weights_;     // of it
  // The filter's gradient, in training.
  DeviceBuffer<float> krsc_gradient_;
  std::optional<LibraryTensor> gradient_;
  Plans<ConvolutionPlan> plans_;
};

}  // namespace

std::unique_ptr<LayerOp> make_convolution(std::shared_ptr<Context> context, std::string name,
                                          const ConvShape& shape, const ParameterOffsets& offsets,
                                          bool relu, Mode mode) {
  const auto make = [&](Precision precision) {
    return std::make_unique<Convolution>(context, name, shape, offsets, relu, mode, precision);
  };
  const Precision wanted = context->precision();
  try {
    return make(wanted);
  } catch (const CudnnError& error) {
    // cuDNN lacks an algorithm for halves: the layer computes in float32.
    if (wanted == Precision::kFloat ||
        CUDNN_STATUS_CATEGORY(error.status()) != CUDNN_STATUS_NOT_SUPPORTED)
      throw;
  }
  return make(Precision::kFloat);
}

}  // namespace mnist::MNIST_TARGET::cudnn
