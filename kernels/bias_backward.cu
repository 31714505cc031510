// Gradient of a bias: dbias[j] = sum over i of dy[i,j], in the fixed order of sum_rows.cuh.
#include "kernels/kernels.h"
#include "kernels/sum_rows.cuh"

namespace mnist::MNIST_TARGET {

size_t bias_backward_workspace(int64_t rows, int cols) {
  return sum_rows_workspace(rows, cols);
}

void bias_backward(float* dbias, float* workspace, const float* dy, int64_t rows, int cols,
                   cudaStream_t stream) {
  sum_rows(dbias, workspace, dy, rows, cols, stream);
}

// One thread per column.
__global__ void bias_backward_naive_kernel(float* dbias, const float* dy, int64_t rows, int cols) {
  const int64_t col = element_index();
  if (col >= cols) return;
  float sum = 0;
  for (int64_t row = 0; row < rows; ++row) sum += dy[row * cols + col];
  dbias[col] = sum;
}

void bias_backward_naive(float* dbias, const float* dy, int64_t rows, int cols,
                         cudaStream_t stream) {
  CHECK(rows > 0 && cols > 0);
  CHECK(dbias != nullptr && dy != nullptr);
  launch(bias_backward_naive_kernel, elementwise_grid(cols), dim3(kBlockSize), 0, stream, dbias, dy,
         rows, cols);
}

}  // namespace mnist::MNIST_TARGET
