// Owners of cuDNN's and cuBLASLt's handles and descriptors, and functions that make them.
// Tensors are NHWC throughout; filters are KRSC, which cuDNN calls NHWC too.
#pragma once

#include <cublasLt.h>
#include <cudnn.h>

#include <memory>
#include <type_traits>

#include "host/engine/backends/cudnn/check.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET::cudnn {

// The operands of convolutions and products; sums are float32 either way. All else is float32.
enum class Precision { kFloat, kHalf };

inline cudnnDataType_t tensor_type(Precision precision) {
  return precision == Precision::kHalf ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}
inline cudaDataType_t matrix_type(Precision precision) {
  return precision == Precision::kHalf ? CUDA_R_16F : CUDA_R_32F;
}
inline size_t size_of(Precision precision) {
  return precision == Precision::kHalf ? 2 : sizeof(float);
}

// A failure to destroy has no cure, and is that of an earlier fault, which has been reported.
struct Destroy {
  void operator()(cudnnHandle_t h) const { (void)cudnnDestroy(h); }
  void operator()(cudnnTensorDescriptor_t d) const { (void)cudnnDestroyTensorDescriptor(d); }
  void operator()(cudnnFilterDescriptor_t d) const { (void)cudnnDestroyFilterDescriptor(d); }
  void operator()(cudnnConvolutionDescriptor_t d) const {
    (void)cudnnDestroyConvolutionDescriptor(d);
  }
  void operator()(cudnnPoolingDescriptor_t d) const { (void)cudnnDestroyPoolingDescriptor(d); }
  void operator()(cudnnActivationDescriptor_t d) const {
    (void)cudnnDestroyActivationDescriptor(d);
  }
  void operator()(cublasLtHandle_t h) const { (void)cublasLtDestroy(h); }
  void operator()(cublasLtMatrixLayout_t l) const { (void)cublasLtMatrixLayoutDestroy(l); }
  void operator()(cublasLtMatmulDesc_t d) const { (void)cublasLtMatmulDescDestroy(d); }
  void operator()(cublasLtMatmulPreference_t p) const { (void)cublasLtMatmulPreferenceDestroy(p); }
  void operator()(cublasLtMatrixTransformDesc_t d) const {
    (void)cublasLtMatrixTransformDescDestroy(d);
  }
};

template <typename Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

using Tensor = Owned<cudnnTensorDescriptor_t>;
using Filter = Owned<cudnnFilterDescriptor_t>;
using ReluActivation = Owned<cudnnActivationDescriptor_t>;
using ConvolutionMode = Owned<cudnnConvolutionDescriptor_t>;
using PoolingMode = Owned<cudnnPoolingDescriptor_t>;

inline Owned<cudnnHandle_t> make_cudnn() {
  cudnnHandle_t handle = nullptr;
  CUDNN_CHECK(cudnnCreate(&handle));
  return Owned<cudnnHandle_t>(handle);
}

inline Owned<cublasLtHandle_t> make_cublas() {
  cublasLtHandle_t handle = nullptr;
  CUBLAS_CHECK(cublasLtCreate(&handle));
  return Owned<cublasLtHandle_t>(handle);
}

inline Tensor make_tensor() {
  cudnnTensorDescriptor_t tensor = nullptr;
  CUDNN_CHECK(cudnnCreateTensorDescriptor(&tensor));
  return Tensor(tensor);
}

// [n,h,w,c]
inline Tensor make_tensor(int n, int h, int w, int c, Precision precision = Precision::kFloat) {
  Tensor tensor = make_tensor();
  CUDNN_CHECK(cudnnSetTensor4dDescriptor(tensor.get(), CUDNN_TENSOR_NHWC, tensor_type(precision), n,
                                         c, h, w));
  return tensor;
}

// [n,h,w,c] as a part of [n,rows,columns,c]
inline Tensor make_part(int n, int h, int w, int c, int rows, int columns,
                        Precision precision = Precision::kFloat) {
  Tensor tensor = make_tensor();
  CUDNN_CHECK(cudnnSetTensor4dDescriptorEx(tensor.get(), tensor_type(precision), n, c, h, w,
                                           rows * columns * c, 1, columns * c, c));
  return tensor;
}

// [k,r,s,c]
inline Filter make_filter(int k, int r, int s, int c, Precision precision = Precision::kFloat) {
  cudnnFilterDescriptor_t filter = nullptr;
  CUDNN_CHECK(cudnnCreateFilterDescriptor(&filter));
  Filter owner(filter);
  CUDNN_CHECK(
      cudnnSetFilter4dDescriptor(filter, tensor_type(precision), CUDNN_TENSOR_NHWC, k, c, r, s));
  return owner;
}

inline ConvolutionMode make_convolution_mode(int pad_h, int pad_w, int stride_h, int stride_w,
                                             cudnnMathType_t math) {
  cudnnConvolutionDescriptor_t mode = nullptr;
  CUDNN_CHECK(cudnnCreateConvolutionDescriptor(&mode));
  ConvolutionMode owner(mode);
  CUDNN_CHECK(cudnnSetConvolution2dDescriptor(mode, pad_h, pad_w, stride_h, stride_w, 1, 1,
                                              CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
  CUDNN_CHECK(cudnnSetConvolutionMathType(mode, math));
  return owner;
}

inline PoolingMode make_pooling_mode(int window_h, int window_w, int pad_h, int pad_w, int stride_h,
                                     int stride_w) {
  cudnnPoolingDescriptor_t mode = nullptr;
  CUDNN_CHECK(cudnnCreatePoolingDescriptor(&mode));
  PoolingMode owner(mode);
  CUDNN_CHECK(cudnnSetPooling2dDescriptor(mode, CUDNN_POOLING_MAX_DETERMINISTIC,
                                          CUDNN_PROPAGATE_NAN, window_h, window_w, pad_h, pad_w,
                                          stride_h, stride_w));
  return owner;
}

inline ReluActivation make_relu() {
  cudnnActivationDescriptor_t relu = nullptr;
  CUDNN_CHECK(cudnnCreateActivationDescriptor(&relu));
  ReluActivation owner(relu);
  CUDNN_CHECK(cudnnSetActivationDescriptor(relu, CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0));
  return owner;
}

// A packed column-major matrix: element (row, column) at row + column * rows.
inline Owned<cublasLtMatrixLayout_t> make_matrix(int rows, int columns,
                                                 Precision precision = Precision::kFloat) {
  cublasLtMatrixLayout_t layout = nullptr;
  CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, matrix_type(precision), uint64_t(rows),
                                          uint64_t(columns), rows));
  return Owned<cublasLtMatrixLayout_t>(layout);
}

}  // namespace mnist::MNIST_TARGET::cudnn
