// What all ops share: handles, and the ReLU.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "host/engine/backends/cudnn/descriptors.h"
#include "host/engine/backends/cudnn/module.h"
#include "host/engine/device/stream.h"
#include "kernels/check.h"

namespace mnist::MNIST_TARGET::cudnn {

inline constexpr float kOne = 1.0f, kZero = 0.0f;  // cuDNN and cuBLAS take them by address

class Context {
 public:
  // Makes a handle of each library: one that does not work here fails now, not in the first step.
  explicit Context(const CudnnOptions& options) : options_(options) { on(setup_); }

  const CudnnOptions& options() const { return options_; }
  // What the layers are to compute on.
  Precision precision() const { return options_.fp16 ? Precision::kHalf : Precision::kFloat; }
  cublasLtHandle_t cublas() const { return cublas_.get(); }

  // The handle that launches on `stream`: each stream has its own, since a handle's memory serves
  // one stream at a time.
  cudnnHandle_t on(cudaStream_t stream);

  // Where plans are made: what runs on it is awaited.
  const Stream& setup() const { return setup_; }

  cudnnActivationDescriptor_t relu() const { return relu_.get(); }
  // dx = 0 where !(x > 0), in place: x came out of a ReLU, which is all that its gradient needs.
  void gate(cudnnHandle_t cudnn, cudnnTensorDescriptor_t shape, float* dx, const float* x) const;

 private:
  const CudnnOptions options_;
  Stream setup_;
  std::map<cudaStream_t, Owned<cudnnHandle_t>> handles_;
  Owned<cublasLtHandle_t> cublas_ = make_cublas();
  ReluActivation relu_ = make_relu();
};

// What an op needs for batches of n, made once per n. Plans allocate memory and time algorithms,
// which a stream that records a graph does not allow: n must have been met before.
template <typename Plan>
class Plans {
 public:
  // make(n) -> Plan
  template <typename Make>
  Plan& at(int n, cudaStream_t stream, const Make& make) {
    const auto found = plans_.find(n);
    if (found != plans_.end()) return found->second;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
    if (status != cudaStreamCaptureStatusNone)
      throw std::logic_error("a graph is being recorded with batches of " + std::to_string(n) +
                             ", for which nothing is planned");
    return plans_.emplace(n, make(n)).first->second;
  }

 private:
  std::map<int, Plan> plans_;
};

}  // namespace mnist::MNIST_TARGET::cudnn
