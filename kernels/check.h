// Errors of the CUDA runtime as exceptions, and the checks that launchers make of their arguments.
#pragma once

#include <cuda_runtime.h>

#include <new>
#include <stdexcept>
#include <string>

#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t code, const std::string& what) : std::runtime_error(what), code_(code) {}
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

// What cudaErrorMemoryAllocation becomes: the host treats it like any other lack of memory.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(const std::string& what) : text_(what) {}
  const char* what() const noexcept override { return text_.what(); }

 private:
  std::runtime_error text_;  // a text that is copied without an exception
};

inline void cuda_check(cudaError_t code, const char* expression, const char* file, int line) {
  if (code == cudaSuccess) return;
  const std::string what = std::string(file) + ":" + std::to_string(line) + ": " + expression +
                           ": " + cudaGetErrorName(code) + ": " + cudaGetErrorString(code);
  if (code == cudaErrorMemoryAllocation) throw OutOfMemory(what);
  throw CudaError(code, what);
}

inline void check(bool holds, const char* expression, const char* function) {
  if (!holds) throw std::invalid_argument(std::string(function) + ": not true: " + expression);
}

}  // namespace mnist::MNIST_TARGET

#define CUDA_CHECK(expression) \
  ::mnist::MNIST_TARGET::cuda_check((expression), #expression, __FILE__, __LINE__)
#define CHECK(condition) ::mnist::MNIST_TARGET::check((condition), #condition, __func__)
