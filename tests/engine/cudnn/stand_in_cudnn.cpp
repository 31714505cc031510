// The stand-in's cuDNN: convolutions, max pooling, ReLU, softmax and copies of tensors. Halves are
// taken where cuDNN's reference says so: in convolutions whose tensors are all halves, and copies.
#include <cudnn.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "tests/engine/cudnn/stand_in_core.h"

struct cudnnContext {
  static constexpr const char* kKind = "cuDNN handle";
  cudaStream_t stream = nullptr;
};

struct cudnnTensorStruct {
  static constexpr const char* kKind = "tensor descriptor";
  bool set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int n = 0, c = 0, h = 0, w = 0;
  int n_stride = 0, c_stride = 0, h_stride = 0, w_stride = 0;
  mnist::stand_in::Element element() const {
    return type == CUDNN_DATA_HALF ? mnist::stand_in::Element::kHalf
                                   : mnist::stand_in::Element::kFloat;
  }
};

struct cudnnFilterStruct {
  static constexpr const char* kKind = "filter descriptor";
  bool set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
  int k = 0, c = 0, r = 0, s = 0;
};

struct cudnnConvolutionStruct {
  static constexpr const char* kKind = "convolution descriptor";
  bool set = false;
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, dilation_h = 0, dilation_w = 0;
  cudnnConvolutionMode_t mode = CUDNN_CONVOLUTION;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

struct cudnnPoolingStruct {
  static constexpr const char* kKind = "pooling descriptor";
  bool set = false;
  cudnnPoolingMode_t mode = CUDNN_POOLING_MAX;
  int window_h = 0, window_w = 0, pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0;
};

struct cudnnActivationStruct {
  static constexpr const char* kKind = "activation descriptor";
  bool set = false;
  cudnnActivationMode_t mode = CUDNN_ACTIVATION_SIGMOID;
};

namespace mnist::stand_in {
namespace {

using Indices = std::vector<size_t>;

cudnnStatus_t answer(const Call& call) {
  return call.sound() ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

double scalar(const void* host) {
  return double(*static_cast<const float*>(host));
}

// The descriptor, if it is set to something that this backend may use: float32, or else FP16.
const cudnnTensorStruct* either_tensor(Call& call, cudnnTensorDescriptor_t descriptor) {
  const auto* t = call.get<cudnnTensorStruct>(descriptor);
  if (t == nullptr || !call.require(t->set, "a tensor descriptor that was never set")) return t;
  call.require(t->type == CUDNN_DATA_FLOAT || t->type == CUDNN_DATA_HALF,
               "a tensor that is neither float32 nor FP16");
  call.require(t->c_stride == 1 && t->w_stride >= t->c && t->h_stride >= t->w_stride * t->w &&
                   t->n_stride >= t->h_stride * t->h,
               "a tensor that is not NHWC");
  return t;
}

const cudnnTensorStruct* tensor(Call& call, cudnnTensorDescriptor_t descriptor) {
  const auto* t = either_tensor(call, descriptor);
  if (t != nullptr) call.require(t->type == CUDNN_DATA_FLOAT, "a tensor that is not float32");
  return t;
}

bool packed(const cudnnTensorStruct& t) {
  return t.w_stride == t.c && t.h_stride == t.w * t.c && t.n_stride == t.h * t.w * t.c;
}

const cudnnFilterStruct* filter(Call& call, cudnnFilterDescriptor_t descriptor) {
  const auto* f = call.get<cudnnFilterStruct>(descriptor);
  if (f == nullptr || !call.require(f->set, "a filter descriptor that was never set")) return f;
  call.require(f->format == CUDNN_TENSOR_NHWC, "a filter that is not NHWC");
  return f;
}

template <typename Struct>
const Struct* mode(Call& call, const void* descriptor) {
  const auto* m = call.get<Struct>(descriptor);
  if (m != nullptr) call.require(m->set, std::string(Struct::kKind) + " that was never set");
  return m;
}

// Where the elements lie, in the order n, h, w, c.
Indices places(const cudnnTensorStruct& t) {
  Indices all;
  all.reserve(size_t(t.n) * t.h * t.w * t.c);
  for (size_t n = 0; n < size_t(t.n); ++n)
    for (size_t h = 0; h < size_t(t.h); ++h)
      for (size_t w = 0; w < size_t(t.w); ++w)
        for (size_t c = 0; c < size_t(t.c); ++c)
          all.push_back(n * t.n_stride + h * t.h_stride + w * t.w_stride + c * t.c_stride);
  return all;
}

// In the order r, s, c, k.
Indices places(const cudnnFilterStruct& f) {
  Indices all;
  const bool nhwc = f.format == CUDNN_TENSOR_NHWC;
  for (size_t r = 0; r < size_t(f.r); ++r)
    for (size_t s = 0; s < size_t(f.s); ++s)
      for (size_t c = 0; c < size_t(f.c); ++c)
        for (size_t k = 0; k < size_t(f.k); ++k)
          all.push_back(nhwc ? ((k * f.r + r) * f.s + s) * f.c + c
                             : ((k * f.c + c) * f.r + r) * f.s + s);
  return all;
}

bool same_shape(const cudnnTensorStruct& a, const cudnnTensorStruct& b) {
  return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
}

int output_size(int size, int pad, int window, int stride) {
  const int covered = size + 2 * pad - window;
  return covered < 0 || stride < 1 ? 0 : covered / stride + 1;
}

// ---- convolution -------------------------------------------------------------------------------
struct Convolved {
  const cudnnTensorStruct *x, *y;
  const cudnnFilterStruct* w;
  const cudnnConvolutionStruct* mode;
  ConvShape shape;

  Element element() const { return x->element(); }
  bool half() const { return element() == Element::kHalf; }
};

bool read_convolution(Call& call, Convolved& c, cudnnTensorDescriptor_t x,
                      cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t mode_descriptor,
                      cudnnTensorDescriptor_t y) {
  c.x = either_tensor(call, x);
  c.y = either_tensor(call, y);
  c.w = filter(call, w);
  c.mode = mode<cudnnConvolutionStruct>(call, mode_descriptor);
  if (!call.sound()) return false;
  const cudnnConvolutionStruct& m = *c.mode;
  call.require(c.x->type == c.w->type && c.x->type == c.y->type,
               "input, filter and output differ in type");
  call.require(packed(*c.x) && packed(*c.y), "a tensor of a convolution that is not packed");
  call.require(m.mode == CUDNN_CROSS_CORRELATION, "not a cross-correlation");
  call.require(m.type == CUDNN_DATA_FLOAT, "the compute type is not float32");
  call.require(m.dilation_h == 1 && m.dilation_w == 1, "a dilated filter");
  call.require(c.x->c == c.w->c && c.y->c == c.w->k, "channels of input, filter, output differ");
  call.require(c.x->n == c.y->n, "input and output are not the same batch");
  call.require(c.y->h == output_size(c.x->h, m.pad_h, c.w->r, m.stride_h) &&
                   c.y->w == output_size(c.x->w, m.pad_w, c.w->s, m.stride_w),
               "the output's size does not follow from input, filter, padding and stride");
  c.shape = {c.x->n,     c.x->h,     c.x->w,  c.x->c,  c.w->k, c.w->r, c.w->s,
             m.stride_h, m.stride_w, m.pad_h, m.pad_w, c.y->h, c.y->w};
  return call.sound();
}

// Made up, different for each algorithm and shape, and sometimes nothing.
size_t workspace_size(const ConvShape& s, int algorithm) {
  return s.n % 3 == 1 ? 0 : 128 * size_t(algorithm + 1) + 4 * (s.input_size() + s.filter_size());
}

struct Proposed {
  int algorithm;
  bool deterministic;
  cudnnMathType_t math;
  size_t memory;
  cudnnStatus_t status;
};

constexpr int kUnusable = 5;  // of each pass some algorithm that is not the one proposed

// How the stand-in runs a convolution of halves: one channel is nothing for its tensor cores.
cudnnMathType_t half_math(const Convolved& c) {
  return c.shape.c == 1 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
}

// Fastest first, with everything before the right one that must not be taken.
template <typename Proposal>
void propose(Call& call, const Convolved& c, int sound_algorithm, int unsound_algorithm,
             int requested, int* found, Proposal* proposals) {
  using Algorithm = decltype(Proposal::algo);
  call.require(c.mode->math == (c.half() ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH),
               "a search without the wanted math type");
  const bool deterministic = !state().refuse_determinism;
  const size_t memory = workspace_size(c.shape, sound_algorithm);
  const Proposed floats[] = {
      {kUnusable, true, CUDNN_FMA_MATH, 0, CUDNN_STATUS_NOT_SUPPORTED},
      {unsound_algorithm, false, CUDNN_FMA_MATH, 0, CUDNN_STATUS_SUCCESS},
      {sound_algorithm, deterministic, CUDNN_FMA_MATH, size_t{1} << 40, CUDNN_STATUS_SUCCESS},
      {sound_algorithm, deterministic, CUDNN_DEFAULT_MATH, memory, CUDNN_STATUS_SUCCESS},
      {sound_algorithm, deterministic, CUDNN_FMA_MATH, memory, CUDNN_STATUS_SUCCESS},
  };
  const cudnnStatus_t of_halves =
      state().refuse_half ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
  const Proposed halves[] = {
      {kUnusable, true, CUDNN_TENSOR_OP_MATH, 0, CUDNN_STATUS_NOT_SUPPORTED},
      {unsound_algorithm, false, CUDNN_TENSOR_OP_MATH, 0, of_halves},
      {sound_algorithm, deterministic, half_math(c), size_t{1} << 40, of_halves},
      {sound_algorithm, deterministic, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION, memory, of_halves},
      {sound_algorithm, deterministic, half_math(c), memory, of_halves},
  };
  const auto& all = c.half() ? halves : floats;
  *found = std::min(requested, int(std::size(all)));
  for (int i = 0; i < *found; ++i)
    proposals[i] = {
        .algo = Algorithm(all[i].algorithm),
        .status = all[i].status,
        .time = float(i),
        .memory = all[i].memory,
        .determinism = all[i].deterministic ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC,
        .mathType = all[i].math,
        .reserved = {}};
}

constexpr int kForward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
constexpr int kData = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
constexpr int kFilter = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

// The algorithm, the math and the workspace of a convolution that is to run.
void check_run(Call& call, const Convolved& c, int algorithm, int sound_algorithm, size_t bytes) {
  call.require(algorithm == sound_algorithm,
               "an algorithm that cannot run, or is not deterministic");
  call.require(c.mode->math == (c.half() ? half_math(c) : CUDNN_FMA_MATH), "wrong math type");
  call.require(bytes >= workspace_size(c.shape, algorithm), "the workspace is too small");
}

// The elements' type. Halves must be aligned as tensor cores need them.
Element aligned(Call& call, const Convolved& c, std::initializer_list<const void*> operands) {
  for (const void* operand : operands)
    call.require(!c.half() || reinterpret_cast<uintptr_t>(operand) % 16 == 0,
                 "halves that are not aligned to 16 bytes");
  return c.element();
}

// A search or a query for one convolution.
template <typename Answer>
cudnnStatus_t ask(const char* function, cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                  cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t mode,
                  cudnnTensorDescriptor_t y, const Answer& give) {
  Call call(function, Call::Kind::kNotWhileCapturing);
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  call.get<cudnnContext>(handle);
  Convolved c{};
  if (read_convolution(call, c, x, w, mode, y)) give(call, c);
  return answer(call);
}

double relu(double value) {
  return value < 0 ? 0 : value;
}

}  // namespace
}  // namespace mnist::stand_in

using namespace mnist;
using namespace mnist::stand_in;

extern "C" {

size_t cudnnGetVersion() {
  return CUDNN_VERSION;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_NOT_SUPPORTED      ? "CUDNN_STATUS_NOT_SUPPORTED"
         : status == CUDNN_STATUS_EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED"
                                                   : "CUDNN_STATUS_BAD_PARAM";
}

void cudnnGetLastErrorString(char* message, size_t size) {
  std::strncpy(message, last_fault(), size - 1);
}

#define STAND_IN_DESTROY(function, type)                                                     \
  cudnnStatus_t function(type* object) {                                                     \
    return destroy<type>(#function, object) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM; \
  }
#define STAND_IN_CREATE(function, type)                     \
  cudnnStatus_t function(type** object) {                   \
    Call call(#function);                                   \
    if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED; \
    *object = create<type>();                               \
    return CUDNN_STATUS_SUCCESS;                            \
  }
STAND_IN_DESTROY(cudnnDestroy, cudnnContext)
STAND_IN_DESTROY(cudnnDestroyTensorDescriptor, cudnnTensorStruct)
STAND_IN_DESTROY(cudnnDestroyFilterDescriptor, cudnnFilterStruct)
STAND_IN_DESTROY(cudnnDestroyConvolutionDescriptor, cudnnConvolutionStruct)
STAND_IN_DESTROY(cudnnDestroyPoolingDescriptor, cudnnPoolingStruct)
STAND_IN_DESTROY(cudnnDestroyActivationDescriptor, cudnnActivationStruct)
STAND_IN_CREATE(cudnnCreateTensorDescriptor, cudnnTensorStruct)
STAND_IN_CREATE(cudnnCreateFilterDescriptor, cudnnFilterStruct)
STAND_IN_CREATE(cudnnCreateConvolutionDescriptor, cudnnConvolutionStruct)
STAND_IN_CREATE(cudnnCreatePoolingDescriptor, cudnnPoolingStruct)
STAND_IN_CREATE(cudnnCreateActivationDescriptor, cudnnActivationStruct)

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  Call call("cudnnCreate", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  *handle = create<cudnnContext>();
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  Call call("cudnnSetStream");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  if (auto* context = call.get<cudnnContext>(handle)) context->stream = stream;
  return answer(call);
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t descriptor,
                                         cudnnTensorFormat_t format, cudnnDataType_t type, int n,
                                         int c, int h, int w) {
  Call call("cudnnSetTensor4dDescriptor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  call.require(std::min({n, c, h, w}) > 0, "an extent that is not positive");
  if (auto* t = call.get<cudnnTensorStruct>(descriptor)) {
    if (format == CUDNN_TENSOR_NHWC)
      *t = {true, type, n, c, h, w, h * w * c, 1, w * c, c};
    else
      *t = {true, type, n, c, h, w, c * h * w, h * w, w, 1};
  }
  return answer(call);
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type,
                                           int n, int c, int h, int w, int n_stride, int c_stride,
                                           int h_stride, int w_stride) {
  Call call("cudnnSetTensor4dDescriptorEx");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  call.require(std::min({n, c, h, w}) > 0, "an extent that is not positive");
  if (auto* t = call.get<cudnnTensorStruct>(descriptor))
    *t = {true, type, n, c, h, w, n_stride, c_stride, h_stride, w_stride};
  return answer(call);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t descriptor, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int r, int s) {
  Call call("cudnnSetFilter4dDescriptor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  if (auto* f = call.get<cudnnFilterStruct>(descriptor)) *f = {true, type, format, k, c, r, s};
  return answer(call);
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t descriptor, int pad_h,
                                              int pad_w, int stride_h, int stride_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t type) {
  Call call("cudnnSetConvolution2dDescriptor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  call.require(pad_h >= 0 && pad_w >= 0 && stride_h > 0 && stride_w > 0, "impossible parameters");
  if (auto* m = call.get<cudnnConvolutionStruct>(descriptor))
    *m = {true,       pad_h,      pad_w, stride_h, stride_w,
          dilation_h, dilation_w, mode,  type,     CUDNN_DEFAULT_MATH};
  return answer(call);
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t descriptor,
                                          cudnnMathType_t math) {
  Call call("cudnnSetConvolutionMathType");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  if (auto* m = call.get<cudnnConvolutionStruct>(descriptor)) m->math = math;
  return answer(call);
}

cudnnStatus_t cudnnSetPooling2dDescriptor(cudnnPoolingDescriptor_t descriptor,
                                          cudnnPoolingMode_t mode, cudnnNanPropagation_t,
                                          int window_h, int window_w, int pad_h, int pad_w,
                                          int stride_h, int stride_w) {
  Call call("cudnnSetPooling2dDescriptor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  call.require(std::min({window_h, window_w, stride_h, stride_w}) > 0 && pad_h >= 0 && pad_w >= 0 &&
                   pad_h < window_h && pad_w < window_w,
               "impossible parameters");
  if (auto* m = call.get<cudnnPoolingStruct>(descriptor))
    *m = {true, mode, window_h, window_w, pad_h, pad_w, stride_h, stride_w};
  return answer(call);
}

cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t descriptor,
                                           cudnnActivationMode_t mode, cudnnNanPropagation_t,
                                           double) {
  Call call("cudnnSetActivationDescriptor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  if (auto* m = call.get<cudnnActivationStruct>(descriptor)) *m = {true, mode};
  return answer(call);
}

// ---- searches and queries ----------------------------------------------------------------------
#define STAND_IN_FORWARD_SEARCH(function)                                                          \
  cudnnStatus_t function(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,                    \
                         const cudnnFilterDescriptor_t w, const cudnnConvolutionDescriptor_t mode, \
                         const cudnnTensorDescriptor_t y, const int requested, int* found,         \
                         cudnnConvolutionFwdAlgoPerf_t* proposals) {                               \
    return ask(#function, handle, x, w, mode, y, [&](Call& call, const Convolved& c) {             \
      propose(call, c, kForward, CUDNN_CONVOLUTION_FWD_ALGO_GEMM, requested, found, proposals);    \
    });                                                                                            \
  }
#define STAND_IN_DATA_SEARCH(function)                                                         \
  cudnnStatus_t function(                                                                      \
      cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy, \
      const cudnnConvolutionDescriptor_t mode, const cudnnTensorDescriptor_t dx,               \
      const int requested, int* found, cudnnConvolutionBwdDataAlgoPerf_t* proposals) {         \
    return ask(#function, handle, dx, w, mode, dy, [&](Call& call, const Convolved& c) {       \
      propose(call, c, kData, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, requested, found, proposals); \
    });                                                                                        \
  }
#define STAND_IN_FILTER_SEARCH(function)                                                           \
  cudnnStatus_t function(                                                                          \
      cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,     \
      const cudnnConvolutionDescriptor_t mode, const cudnnFilterDescriptor_t dw,                   \
      const int requested, int* found, cudnnConvolutionBwdFilterAlgoPerf_t* proposals) {           \
    return ask(#function, handle, x, dw, mode, dy, [&](Call& call, const Convolved& c) {           \
      propose(call, c, kFilter, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, requested, found, proposals); \
    });                                                                                            \
  }
STAND_IN_FORWARD_SEARCH(cudnnFindConvolutionForwardAlgorithm)
STAND_IN_FORWARD_SEARCH(cudnnGetConvolutionForwardAlgorithm_v7)
STAND_IN_DATA_SEARCH(cudnnFindConvolutionBackwardDataAlgorithm)
STAND_IN_DATA_SEARCH(cudnnGetConvolutionBackwardDataAlgorithm_v7)
STAND_IN_FILTER_SEARCH(cudnnFindConvolutionBackwardFilterAlgorithm)
STAND_IN_FILTER_SEARCH(cudnnGetConvolutionBackwardFilterAlgorithm_v7)

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
    const cudnnConvolutionDescriptor_t mode, const cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdAlgo_t algorithm, size_t* bytes) {
  return ask("cudnnGetConvolutionForwardWorkspaceSize", handle, x, w, mode, y,
             [&](Call&, const Convolved& c) { *bytes = workspace_size(c.shape, algorithm); });
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t mode, const cudnnTensorDescriptor_t dx,
    cudnnConvolutionBwdDataAlgo_t algorithm, size_t* bytes) {
  return ask("cudnnGetConvolutionBackwardDataWorkspaceSize", handle, dx, w, mode, dy,
             [&](Call&, const Convolved& c) { *bytes = workspace_size(c.shape, algorithm); });
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t mode, const cudnnFilterDescriptor_t dw,
    cudnnConvolutionBwdFilterAlgo_t algorithm, size_t* bytes) {
  return ask("cudnnGetConvolutionBackwardFilterWorkspaceSize", handle, x, dw, mode, dy,
             [&](Call&, const Convolved& c) { *bytes = workspace_size(c.shape, algorithm); });
}

// ---- work --------------------------------------------------------------------------------------
cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                      const cudnnTensorDescriptor_t x_descriptor, const void* x,
                                      const cudnnFilterDescriptor_t w_descriptor, const void* w,
                                      const cudnnConvolutionDescriptor_t mode,
                                      cudnnConvolutionFwdAlgo_t algorithm, void* workspace,
                                      size_t bytes, const void* beta,
                                      const cudnnTensorDescriptor_t y_descriptor, void* y) {
  Call call("cudnnConvolutionForward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  Convolved c{};
  if (!read_convolution(call, c, x_descriptor, w_descriptor, mode, y_descriptor) || !context)
    return CUDNN_STATUS_BAD_PARAM;
  check_run(call, c, algorithm, kForward, bytes);
  const Indices at_x = places(*c.x), at_w = places(*c.w), at_y = places(*c.y);
  const Element e = aligned(call, c, {x, w, y});
  call.reads("x", x, at_x, e);
  call.reads("w", w, at_w, e);
  if (scalar(beta) != 0) call.reads("y", y, at_y, e);
  call.writes("y", y, at_y, e);
  call.scratch(workspace, bytes);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (call.sound())
    blend(y, at_y,
          reference::conv2d_forward(gather(x, at_x, e), gather(w, at_w, e), {}, c.shape).value,
          scalar(alpha), scalar(beta), e);
  return answer(call);
}

cudnnStatus_t cudnnConvolutionBiasActivationForward(
    cudnnHandle_t handle, const void* alpha1, const cudnnTensorDescriptor_t x_descriptor,
    const void* x, const cudnnFilterDescriptor_t w_descriptor, const void* w,
    const cudnnConvolutionDescriptor_t mode_descriptor, cudnnConvolutionFwdAlgo_t algorithm,
    void* workspace, size_t bytes, const void* alpha2, const cudnnTensorDescriptor_t z_descriptor,
    const void* z, const cudnnTensorDescriptor_t bias_descriptor, const void* bias,
    const cudnnActivationDescriptor_t activation, const cudnnTensorDescriptor_t y_descriptor,
    void* y) {
  Call call("cudnnConvolutionBiasActivationForward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  Convolved c{};
  if (!read_convolution(call, c, x_descriptor, w_descriptor, mode_descriptor, y_descriptor))
    return CUDNN_STATUS_BAD_PARAM;
  check_run(call, c, algorithm, kForward, bytes);
  const auto* b = either_tensor(call, bias_descriptor);
  const auto* added = either_tensor(call, z_descriptor);
  const auto* act = mode<cudnnActivationStruct>(call, activation);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(b->n == 1 && b->h == 1 && b->w == 1 && b->c == c.y->c, "not a bias of the output");
  call.require(same_shape(*added, *c.y), "z is not as large as y");
  call.require(b->type == c.y->type && added->type == c.y->type, "bias or z are not of y's type");
  // Without activation, cuDNN allows one algorithm only.
  call.require(act->mode == CUDNN_ACTIVATION_RELU, "not a ReLU");
  if (state().refuse_fusion) return CUDNN_STATUS_NOT_SUPPORTED_SHAPE;
  const double keep = scalar(alpha2);
  const Indices at_x = places(*c.x), at_w = places(*c.w), at_y = places(*c.y);
  const Indices at_z = places(*added), at_bias = places(*b);
  const Element e = aligned(call, c, {x, w, y});
  call.reads("x", x, at_x, e);
  call.reads("w", w, at_w, e);
  call.reads("bias", bias, at_bias, e);
  if (keep != 0) call.reads("z", z, at_z, e);
  call.writes("y", y, at_y, e);
  call.scratch(workspace, bytes);
  call.launch(context->stream, handle, keep != 0);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  reference::Tensor sums =
      reference::conv2d_forward(gather(x, at_x, e), gather(w, at_w, e), {}, c.shape).value;
  const reference::Tensor shift = gather(bias, at_bias, e);
  const reference::Tensor kept =
      keep != 0 ? gather(z, at_z, e) : reference::Tensor(sums.size(), 0.0);
  for (size_t i = 0; i < sums.size(); ++i)
    sums[i] = relu(scalar(alpha1) * sums[i] + keep * kept[i] + shift[i % shift.size()]);
  blend(y, at_y, sums, 1, 0, e);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha,
                                           const cudnnFilterDescriptor_t w_descriptor,
                                           const void* w,
                                           const cudnnTensorDescriptor_t dy_descriptor,
                                           const void* dy, const cudnnConvolutionDescriptor_t mode,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* workspace,
                                           size_t bytes, const void* beta,
                                           const cudnnTensorDescriptor_t dx_descriptor, void* dx) {
  Call call("cudnnConvolutionBackwardData");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  Convolved c{};
  if (!read_convolution(call, c, dx_descriptor, w_descriptor, mode, dy_descriptor) || !context)
    return CUDNN_STATUS_BAD_PARAM;
  check_run(call, c, algorithm, kData, bytes);
  const Indices at_dx = places(*c.x), at_w = places(*c.w), at_dy = places(*c.y);
  const Element e = aligned(call, c, {w, dy, dx});
  call.reads("w", w, at_w, e);
  call.reads("dy", dy, at_dy, e);
  if (scalar(beta) != 0) call.reads("dx", dx, at_dx, e);
  call.writes("dx", dx, at_dx, e);
  call.scratch(workspace, bytes);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (call.sound())
    blend(dx, at_dx,
          reference::conv2d_backward_data(gather(dy, at_dy, e), gather(w, at_w, e), c.shape).value,
          scalar(alpha), scalar(beta), e);
  return answer(call);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(
    cudnnHandle_t handle, const void* alpha, const cudnnTensorDescriptor_t x_descriptor,
    const void* x, const cudnnTensorDescriptor_t dy_descriptor, const void* dy,
    const cudnnConvolutionDescriptor_t mode, cudnnConvolutionBwdFilterAlgo_t algorithm,
    void* workspace, size_t bytes, const void* beta, const cudnnFilterDescriptor_t dw_descriptor,
    void* dw) {
  Call call("cudnnConvolutionBackwardFilter");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  Convolved c{};
  if (!read_convolution(call, c, x_descriptor, dw_descriptor, mode, dy_descriptor) || !context)
    return CUDNN_STATUS_BAD_PARAM;
  check_run(call, c, algorithm, kFilter, bytes);
  const Indices at_x = places(*c.x), at_dw = places(*c.w), at_dy = places(*c.y);
  const Element e = aligned(call, c, {x, dy, dw});
  call.reads("x", x, at_x, e);
  call.reads("dy", dy, at_dy, e);
  if (scalar(beta) != 0) call.reads("dw", dw, at_dw, e);
  call.writes("dw", dw, at_dw, e);
  call.scratch(workspace, bytes);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (call.sound())
    blend(
        dw, at_dw,
        reference::conv2d_backward_filter(gather(x, at_x, e), gather(dy, at_dy, e), c.shape).value,
        scalar(alpha), scalar(beta), e);
  return answer(call);
}

cudnnStatus_t cudnnConvolutionBackwardBias(cudnnHandle_t handle, const void* alpha,
                                           const cudnnTensorDescriptor_t dy_descriptor,
                                           const void* dy, const void* beta,
                                           const cudnnTensorDescriptor_t db_descriptor, void* db) {
  Call call("cudnnConvolutionBackwardBias");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  const auto* t = tensor(call, dy_descriptor);
  const auto* b = tensor(call, db_descriptor);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(b->n == 1 && b->h == 1 && b->w == 1 && b->c == t->c, "not a bias of the output");
  const Indices at_dy = places(*t), at_db = places(*b);
  call.reads("dy", dy, at_dy);
  if (scalar(beta) != 0) call.reads("db", db, at_db);
  call.writes("db", db, at_db);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (call.sound())
    blend(db, at_db,
          reference::bias_backward(gather(dy, at_dy), int64_t(t->n) * t->h * t->w, t->c).value,
          scalar(alpha), scalar(beta));
  return answer(call);
}

// c [n,h,w,c] += a, whose extents of 1 are repeated.
cudnnStatus_t cudnnAddTensor(cudnnHandle_t handle, const void* alpha,
                             const cudnnTensorDescriptor_t a_descriptor, const void* a,
                             const void* beta, const cudnnTensorDescriptor_t c_descriptor,
                             void* c) {
  Call call("cudnnAddTensor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  const auto* from = tensor(call, a_descriptor);
  const auto* to = tensor(call, c_descriptor);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(from->n == 1 && from->h == 1 && from->w == 1 && from->c == to->c,
               "an addend that is not one value per channel");
  const Indices at_a = places(*from), at_c = places(*to);
  call.reads("A", a, at_a);
  if (scalar(beta) != 0) call.reads("C", c, at_c);
  call.writes("C", c, at_c);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  const reference::Tensor addend = gather(a, at_a);
  reference::Tensor repeated(at_c.size());
  for (size_t i = 0; i < repeated.size(); ++i) repeated[i] = addend[i % addend.size()];
  blend(c, at_c, repeated, scalar(alpha), scalar(beta));
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnTransformTensor(cudnnHandle_t handle, const void* alpha,
                                   const cudnnTensorDescriptor_t x_descriptor, const void* x,
                                   const void* beta, const cudnnTensorDescriptor_t y_descriptor,
                                   void* y) {
  Call call("cudnnTransformTensor");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  const auto* from = either_tensor(call, x_descriptor);
  const auto* to = either_tensor(call, y_descriptor);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(same_shape(*from, *to), "source and destination differ in shape");
  const Indices at_x = places(*from), at_y = places(*to);
  call.reads("x", x, at_x, from->element());
  if (scalar(beta) != 0) call.reads("y", y, at_y, to->element());
  call.writes("y", y, at_y, to->element());
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (call.sound())
    blend(y, at_y, gather(x, at_x, from->element()), scalar(alpha), scalar(beta), to->element());
  return answer(call);
}

cudnnStatus_t cudnnActivationForward(cudnnHandle_t handle, cudnnActivationDescriptor_t activation,
                                     const void* alpha, const cudnnTensorDescriptor_t x_descriptor,
                                     const void* x, const void* beta,
                                     const cudnnTensorDescriptor_t y_descriptor, void* y) {
  Call call("cudnnActivationForward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  const auto* act = mode<cudnnActivationStruct>(call, activation);
  const auto* from = tensor(call, x_descriptor);
  const auto* to = tensor(call, y_descriptor);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(act->mode == CUDNN_ACTIVATION_RELU, "not a ReLU");
  call.require(same_shape(*from, *to), "input and output differ in shape");
  const Indices at_x = places(*from), at_y = places(*to);
  call.reads("x", x, at_x);
  if (scalar(beta) != 0) call.reads("y", y, at_y);
  call.writes("y", y, at_y);
  call.launch(context->stream, handle, true);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  reference::Tensor values = gather(x, at_x);
  std::transform(values.begin(), values.end(), values.begin(), relu);
  blend(y, at_y, values, scalar(alpha), scalar(beta));
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnActivationBackward(cudnnHandle_t handle, cudnnActivationDescriptor_t activation,
                                      const void* alpha, const cudnnTensorDescriptor_t y_descriptor,
                                      const void* y, const cudnnTensorDescriptor_t dy_descriptor,
                                      const void* dy, const cudnnTensorDescriptor_t x_descriptor,
                                      const void* x, const void* beta,
                                      const cudnnTensorDescriptor_t dx_descriptor, void* dx) {
  Call call("cudnnActivationBackward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  const auto* act = mode<cudnnActivationStruct>(call, activation);
  const auto* t = tensor(call, y_descriptor);
  for (const cudnnTensorDescriptor_t other : {dy_descriptor, x_descriptor, dx_descriptor}) {
    const auto* o = tensor(call, other);
    if (call.sound()) call.require(same_shape(*o, *t), "the four tensors differ in shape");
  }
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(act->mode == CUDNN_ACTIVATION_RELU, "not a ReLU");
  const Indices at = places(*t), at_dy = places(*dy_descriptor), at_x = places(*x_descriptor);
  const Indices at_dx = places(*dx_descriptor);
  call.reads("y", y, at);
  call.reads("dy", dy, at_dy);
  call.reads("x", x, at_x);
  if (scalar(beta) != 0) call.reads("dx", dx, at_dx);
  call.writes("dx", dx, at_dx);
  call.launch(context->stream, handle, true);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  const reference::Tensor ys = gather(y, at), xs = gather(x, at_x);
  reference::Tensor values = gather(dy, at_dy);
  for (size_t i = 0; i < values.size(); ++i) {
    call.require((ys[i] > 0) == (xs[i] > 0), "y is not the ReLU of x");
    if (!(ys[i] > 0)) values[i] = 0;
  }
  blend(dx, at_dx, values, scalar(alpha), scalar(beta));
  return answer(call);
}

}  // extern "C"

namespace mnist::stand_in {
namespace {

struct PooledOperands {
  const cudnnTensorStruct *x, *y;
  PoolShape shape;
};

bool read_pooling(Call& call, PooledOperands& p, cudnnPoolingDescriptor_t descriptor,
                  cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t y) {
  const auto* m = mode<cudnnPoolingStruct>(call, descriptor);
  p.x = tensor(call, x);
  p.y = tensor(call, y);
  if (!call.sound()) return false;
  call.require(m->mode == CUDNN_POOLING_MAX_DETERMINISTIC, "not deterministic max pooling");
  call.require(p.x->n == p.y->n && p.x->c == p.y->c, "input and output differ in n or c");
  call.require(p.y->h == output_size(p.x->h, m->pad_h, m->window_h, m->stride_h) &&
                   p.y->w == output_size(p.x->w, m->pad_w, m->window_w, m->stride_w),
               "the output's size does not follow from input, window, padding and stride");
  p.shape = {p.x->n,      p.x->h,      p.x->w,   p.x->c,   m->window_h, m->window_w,
             m->stride_h, m->stride_w, m->pad_h, m->pad_w, p.y->h,      p.y->w};
  return call.sound();
}

}  // namespace
}  // namespace mnist::stand_in

extern "C" {

cudnnStatus_t cudnnPoolingForward(cudnnHandle_t handle, const cudnnPoolingDescriptor_t pooling,
                                  const void* alpha, const cudnnTensorDescriptor_t x_descriptor,
                                  const void* x, const void* beta,
                                  const cudnnTensorDescriptor_t y_descriptor, void* y) {
  Call call("cudnnPoolingForward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  PooledOperands p{};
  if (!read_pooling(call, p, pooling, x_descriptor, y_descriptor) || !context)
    return CUDNN_STATUS_BAD_PARAM;
  const Indices at_x = places(*p.x), at_y = places(*p.y);
  call.reads("x", x, at_x);
  if (scalar(beta) != 0) call.reads("y", y, at_y);
  call.writes("y", y, at_y);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (call.sound())
    blend(y, at_y, reference::maxpool2d_forward(gather(x, at_x), p.shape).y, scalar(alpha),
          scalar(beta));
  return answer(call);
}

cudnnStatus_t cudnnPoolingBackward(cudnnHandle_t handle, const cudnnPoolingDescriptor_t pooling,
                                   const void* alpha, const cudnnTensorDescriptor_t y_descriptor,
                                   const void* y, const cudnnTensorDescriptor_t dy_descriptor,
                                   const void* dy, const cudnnTensorDescriptor_t x_descriptor,
                                   const void* x, const void* beta,
                                   const cudnnTensorDescriptor_t dx_descriptor, void* dx) {
  Call call("cudnnPoolingBackward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  PooledOperands p{};
  if (!read_pooling(call, p, pooling, x_descriptor, y_descriptor) || !context)
    return CUDNN_STATUS_BAD_PARAM;
  const auto* gradient = tensor(call, dy_descriptor);
  const auto* result = tensor(call, dx_descriptor);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(same_shape(*gradient, *p.y) && same_shape(*result, *p.x),
               "a gradient differs in shape from its tensor");
  const Indices at_x = places(*p.x), at_y = places(*p.y);
  const Indices at_dx = places(*result), at_dy = places(*gradient);
  call.reads("y", y, at_y);
  call.reads("dy", dy, at_dy);
  call.reads("x", x, at_x);
  if (scalar(beta) != 0) call.reads("dx", dx, at_dx);
  call.writes("dx", dx, at_dx);
  call.launch(context->stream, handle, scalar(beta) != 0);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  const reference::Pooled pooled = reference::maxpool2d_forward(gather(x, at_x), p.shape);
  call.require(pooled.y == gather(y, at_y), "y is not what pooling x gives");
  blend(dx, at_dx, reference::maxpool2d_backward(gather(dy, at_dy), pooled.argmax, p.shape).value,
        scalar(alpha), scalar(beta));
  return answer(call);
}

cudnnStatus_t cudnnSoftmaxForward(cudnnHandle_t handle, cudnnSoftmaxAlgorithm_t algorithm,
                                  cudnnSoftmaxMode_t softmax_mode, const void* alpha,
                                  const cudnnTensorDescriptor_t x_descriptor, const void* x,
                                  const void* beta, const cudnnTensorDescriptor_t y_descriptor,
                                  void* y) {
  Call call("cudnnSoftmaxForward");
  if (call.fails()) return CUDNN_STATUS_EXECUTION_FAILED;
  const auto* context = call.get<cudnnContext>(handle);
  const auto* from = tensor(call, x_descriptor);
  const auto* to = tensor(call, y_descriptor);
  if (!call.sound()) return CUDNN_STATUS_BAD_PARAM;
  call.require(algorithm == CUDNN_SOFTMAX_ACCURATE, "a softmax that may overflow");
  call.require(same_shape(*from, *to), "input and output differ in shape");
  const Indices at_x = places(*from), at_y = places(*to);
  call.reads("x", x, at_x);
  if (scalar(beta) != 0) call.reads("y", y, at_y);
  call.writes("y", y, at_y);
  call.launch(context->stream, handle, true);
  const bool instance = softmax_mode == CUDNN_SOFTMAX_MODE_INSTANCE;
  const int rows = instance ? from->n : from->n * from->h * from->w;
  if (call.sound())
    blend(y, at_y, reference::softmax(gather(x, at_x), rows, int(at_x.size() / size_t(rows))).value,
          scalar(alpha), scalar(beta));
  return answer(call);
}

}  // extern "C"
