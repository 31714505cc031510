// Failed calls of cuDNN and cuBLAS as exceptions that name the call, the status and its text.
#pragma once

#include <cublasLt.h>
#include <cudnn.h>

#include <stdexcept>
#include <string>

namespace mnist::MNIST_TARGET::cudnn {

class CudnnError : public std::runtime_error {
 public:
  CudnnError(cudnnStatus_t status, const std::string& what)
      : std::runtime_error(what), status_(status) {}
  cudnnStatus_t status() const { return status_; }

 private:
  cudnnStatus_t status_;
};

class CublasError : public std::runtime_error {
 public:
  CublasError(cublasStatus_t status, const std::string& what)
      : std::runtime_error(what), status_(status) {}
  cublasStatus_t status() const { return status_; }

 private:
  cublasStatus_t status_;
};

inline void cudnn_check(cudnnStatus_t status, const char* call, const char* file, int line) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char detail[512] = {};
  cudnnGetLastErrorString(detail, sizeof(detail));
  throw CudnnError(status, std::string(file) + ":" + std::to_string(line) + ": " + call + ": " +
                               cudnnGetErrorString(status) + (detail[0] ? ": " : "") + detail);
}

inline void cublas_check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CublasError(status, std::string(file) + ":" + std::to_string(line) + ": " + call + ": " +
                                cublasLtGetStatusName(status) + ": " +
                                cublasLtGetStatusString(status));
}

}  // namespace mnist::MNIST_TARGET::cudnn

#define CUDNN_CHECK(call) \
  ::mnist::MNIST_TARGET::cudnn::cudnn_check((call), #call, __FILE__, __LINE__)
#define CUBLAS_CHECK(call) \
  ::mnist::MNIST_TARGET::cudnn::cublas_check((call), #call, __FILE__, __LINE__)
