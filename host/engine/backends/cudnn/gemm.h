// Matrix products and transpositions by cuBLASLt. cuBLAS is column-major: a row-major tensor
// [rows,columns] is to it a matrix of `columns` rows and `rows` columns, packed.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "host/engine/backends/cudnn/context.h"
#include "host/engine/device/device_buffer.h"

namespace mnist::MNIST_TARGET::cudnn {

// An operand as it is stored, column-major, and whether the product takes it transposed.
struct Operand {
  int rows, columns;
  bool transposed = false;
};

// d [m,n] = alpha op(a) op(b), followed by an epilogue. a and b have the precision that is given;
// d, `vector` and all sums are float32.
class Gemm {
 public:
  // Asks cuBLASLt's heuristic for an algorithm, and holds the workspace that it needs.
  // With FP16 operands there is no BGRADA: whether alpha scales that sum is not documented.
  Gemm(const Context& context, const Operand& a, const Operand& b, Precision precision,
       cublasLtEpilogue_t epilogue);

  // Whether cuBLASLt has this product with this epilogue.
  bool supported() const { return supported_; }

  // `vector` is the bias, or where the bias gradient goes, if the epilogue has one. Throws
  // CublasError where not supported.
  void run(const Context& context, float alpha, float* d, const void* a, const void* b,
           const float* vector, cudaStream_t stream) const;

 private:
  Owned<cublasLtMatmulDesc_t> product_;
  Owned<cublasLtMatrixLayout_t> a_, b_, d_;
  cublasLtMatmulAlgo_t algorithm_ = {};
  bool supported_ = false;
  DeviceBuffer<unsigned char> workspace_;
};

// out [columns,rows] = the transpose of in [rows,columns], both row-major.
class Transposition {
 public:
  Transposition(int rows, int columns);
  void run(const Context& context, float* out, const float* in, cudaStream_t stream) const;

 private:
  Owned<cublasLtMatrixTransformDesc_t> transform_;
  Owned<cublasLtMatrixLayout_t> in_, out_;
};

}  // namespace mnist::MNIST_TARGET::cudnn
