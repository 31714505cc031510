// Convolutions by cuDNN: bias and ReLU fused into the forward pass where both are there. The arena
// holds filters as [R,S,C,K]; cuDNN wants [K,R,S,C]. So the op keeps transposed copies of filter
// and gradient: load_weights() and store_gradients() are one matrix transposition each.
#include <string>
#include <vector>

#include "host/engine/backends/cudnn/gemm.h"
#include "host/engine/backends/cudnn/ops.h"
#include "host/engine/backends/cudnn/padded_input.h"

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
  PlannedPass<cudnnConvolutionBwdDataAlgo_t> data;
  PlannedPass<cudnnConvolutionBwdFilterAlgo_t> filter;
};

struct ConvolutionPlan {
  PaddedInput input;
  Tensor y;
  PlannedPass<cudnnConvolutionFwdAlgo_t> forward;
  std::optional<ConvolutionBackward> backward;
  std::optional<bool> fused;  // whether cuDNN takes bias and ReLU too; known after the first run
};

// The first of cuDNN's proposals, fastest first, that gives the same bits every time in float32
// arithmetic. The searches propose other arithmetic too.
template <typename Proposal>
const Proposal& choose(const std::vector<Proposal>& proposals, const std::string& what) {
  for (const Proposal& p : proposals) {
    if (p.status == CUDNN_STATUS_SUCCESS && p.determinism == CUDNN_DETERMINISTIC &&
        p.mathType == CUDNN_FMA_MATH && p.memory <= kWorkspaceLimit)
      return p;
  }
  throw CudnnError(CUDNN_STATUS_NOT_SUPPORTED,
                   what + ": cuDNN has no deterministic float32 algorithm for this shape");
}

class Convolution final : public LayerOp {
 public:
  Convolution(std::shared_ptr<Context> context, std::string op_name, const ConvShape& shape,
              const ParameterOffsets& offsets, bool relu, Mode mode)
      : LayerOp(std::move(op_name), int64_t(shape.p) * shape.q * shape.k, relu, true),
        context_(std::move(context)),
        shape_(shape),
        offsets_(offsets),
        mode_(mode),
        rows_{shape.h, shape.r, shape.stride_h, shape.pad_h, shape.p},
        columns_{shape.w, shape.s, shape.stride_w, shape.pad_w, shape.q},
        filter_(make_filter(shape.k, shape.r, shape.s, shape.c)),
        bias_(make_tensor(1, 1, 1, shape.k)),
        to_library_(shape.r * shape.s * shape.c, shape.k),
        to_arena_(shape.k, shape.r * shape.s * shape.c),
        weights_(shape.filter_size()),
        gradient_(mode == Mode::kTraining ? shape.filter_size() : 0) {
    plan(shape.n, context_->setup());
  }

  void load_weights(const Pass& pass) override {
    to_library_.run(*context_, weights_.data(), offsets_.kernel_in(pass.weights), pass.stream);
  }
  void store_gradients(float* gradients, const Pass& pass) override {
    to_arena_.run(*context_, offsets_.kernel_in(gradients), gradient_.data(), pass.stream);
  }

  void forward(float* y, const float* x, const Pass& pass) override {
    ConvolutionPlan& plan = planned(pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const float* input = plan.input.copy_in(cudnn, x);
    const float* bias = offsets_.bias_in(pass.weights);
    const auto& [mode, algorithm, workspace] = plan.forward;
    if (bias != nullptr && ends_in_relu && plan.fused.value_or(true)) {
      const cudnnStatus_t status = cudnnConvolutionBiasActivationForward(
          cudnn, &kOne, plan.input.tensor(), input, filter_.get(), weights_.data(), mode.get(),
          algorithm, workspace.data(), workspace.bytes(), &kZero, plan.y.get(), y, bias_.get(),
          bias, context_->relu(), plan.y.get(), y);
      // The algorithm was proposed for the convolution alone: cuDNN may not have it with bias and
      // ReLU, which only a call tells. A plan's first run, which no graph records, settles it.
      if (!plan.fused) plan.fused = CUDNN_STATUS_CATEGORY(status) != CUDNN_STATUS_NOT_SUPPORTED;
      if (*plan.fused) {
        cudnn_check(status, "cudnnConvolutionBiasActivationForward", __FILE__, __LINE__);
        return;
      }
    }
    CUDNN_CHECK(cudnnConvolutionForward(cudnn, &kOne, plan.input.tensor(), input, filter_.get(),
                                        weights_.data(), mode.get(), algorithm, workspace.data(),
                                        workspace.bytes(), &kZero, plan.y.get(), y));
    if (bias != nullptr)
      CUDNN_CHECK(cudnnAddTensor(cudnn, &kOne, bias_.get(), bias, &kOne, plan.y.get(), y));
    if (ends_in_relu)
      CUDNN_CHECK(cudnnActivationForward(cudnn, context_->relu(), &kOne, plan.y.get(), y, &kZero,
                                         plan.y.get(), y));
  }

  void backward_filter(float* gradients, const float* dy, const float* x,
                       const Pass& pass) override {
    const ConvolutionPlan& plan = planned(pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const auto& [mode, algorithm, workspace] = plan.backward.value().filter;
    CUDNN_CHECK(cudnnConvolutionBackwardFilter(
        cudnn, &kOne, plan.input.tensor(), plan.input.padded(x), plan.y.get(), dy, mode.get(),
        algorithm, workspace.data(), workspace.bytes(), &kZero, filter_.get(), gradient_.data()));
    if (offsets_.has_bias())
      CUDNN_CHECK(cudnnConvolutionBackwardBias(cudnn, &kOne, plan.y.get(), dy, &kZero, bias_.get(),
                                               offsets_.bias_in(gradients)));
  }

  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    const ConvolutionPlan& plan = planned(pass);
    const cudnnHandle_t cudnn = context_->on(pass.stream);
    const auto& [mode, algorithm, workspace] = plan.backward.value().data;
    CUDNN_CHECK(cudnnConvolutionBackwardData(cudnn, &kOne, filter_.get(), weights_.data(),
                                             plan.y.get(), dy, mode.get(), algorithm,
                                             workspace.data(), workspace.bytes(), &kZero,
                                             plan.input.tensor(), plan.input.padded_gradient(dx)));
    plan.input.copy_out(cudnn, dx);
    if (gate) context_->gate(cudnn, plan.input.original(), dx, x);
  }

 private:
  ConvolutionMode make_mode() const {
    return make_convolution_mode(rows_.library_pad(), columns_.library_pad(), shape_.stride_h,
                                 shape_.stride_w, CUDNN_FMA_MATH);
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
    const Proposal& chosen = choose(proposals, name + ' ' + pass);
    CUDNN_CHECK(cudnnSetConvolutionMathType(mode.get(), chosen.mathType));
    size_t bytes = 0;
    workspace_size(mode.get(), chosen.algo, &bytes);
    return PlannedPass<decltype(chosen.algo)>{std::move(mode), chosen.algo,
                                              DeviceBuffer<unsigned char>(bytes)};
  }

  ConvolutionPlan make_plan(int n) const {
    ConvolutionPlan plan{PaddedInput(*context_, n, rows_, columns_, shape_.c, 0.0f, mode_),
                         make_tensor(n, shape_.p, shape_.q, shape_.k),
                         {},
                         {},
                         {}};
    const cudnnHandle_t cudnn = context_->on(context_->setup());
    const bool timed = context_->options().timed_search;
    const cudnnTensorDescriptor_t x = plan.input.tensor(), y = plan.y.get();
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
    plan.backward = ConvolutionBackward{std::move(data), std::move(filter)};
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
  const WindowAxis rows_, columns_;
  const Filter filter_;
  const Tensor bias_;
  const Transposition to_library_, to_arena_;
  const DeviceBuffer<float> weights_, gradient_;  // [K,R,S,C]
  Plans<ConvolutionPlan> plans_;
};

}  // namespace

std::unique_ptr<LayerOp> make_convolution(std::shared_ptr<Context> context, std::string name,
                                          const ConvShape& shape, const ParameterOffsets& offsets,
                                          bool relu, Mode mode) {
  return std::make_unique<Convolution>(std::move(context), std::move(name), shape, offsets, relu,
                                       mode);
}

}  // namespace mnist::MNIST_TARGET::cudnn
