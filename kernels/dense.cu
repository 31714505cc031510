// Fully connected layer, as matrix products (gemm.cuh):
//   forward: y[n,o] = bias[o] + sum over i of x[n,i] w[i,o]
//   data:    dx[n,i] = sum over o of dy[n,o] w[i,o]
//   filter:  dw[i,o] = sum over n of x[n,i] dy[n,o]
// Every operand is used as it is stored; only the direction in which it is read differs.
#include "kernels/gemm.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {
namespace {

void check_shape(const DenseShape& shape) {
  CHECK(shape.n > 0 && shape.in > 0 && shape.out > 0);
  constexpr int kLimit = 1 << 30;  // the tiles' indices go a little beyond the last row and column
  CHECK(shape.n < kLimit && shape.in < kLimit && shape.out < kLimit);
}

}  // namespace

// ---- forward -----------------------------------------------------------------------------------
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dense_forward_kernel(GemmOutput y, MatrixSource x, MatrixSource w) {
  gemm<Tile, Along::kK, Along::kMn>(y, x, w, 0, w.rows);
}

void dense_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                   const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  const GemmOutput out{.data = y, .rows = shape.n, .cols = shape.out, .bias = bias, .relu = relu};
  with_gemm_tile(out.rows, out.cols, 1, [&](auto tile) {
    using Tile = decltype(tile);
    launch(dense_forward_kernel<Tile>, gemm_grid<Tile>(out.rows, out.cols, 1), dim3(Tile::kThreads),
           0, stream, out, MatrixSource(x, shape.n, shape.in),
           MatrixSource(w, shape.in, shape.out));
  });
}

// One thread per output value.
__global__ void dense_forward_naive_kernel(float* y, const float* x, const float* w,
                                           const float* bias, bool relu, DenseShape shape) {
  const int64_t index = element_index();
  if (index >= int64_t(shape.output_size())) return;
  const int64_t n = index / shape.out, o = index % shape.out;
  float sum = 0;
  for (int64_t i = 0; i < shape.in; ++i) sum = fmaf(x[n * shape.in + i], w[i * shape.out + o], sum);
  if (bias != nullptr) sum += bias[o];
  y[index] = relu ? relu_of(sum) : sum;
}

void dense_forward_naive(float* y, const float* x, const float* w, const float* bias, bool relu,
                         const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  launch(dense_forward_naive_kernel, elementwise_grid(shape.output_size()), dim3(kBlockSize), 0,
         stream, y, x, w, bias, relu, shape);
}

// ---- data --------------------------------------------------------------------------------------
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dense_backward_data_kernel(GemmOutput dx, MatrixSource dy, MatrixSource w) {
  gemm<Tile, Along::kK, Along::kK>(dx, dy, w, 0, dy.cols);
}

void dense_backward_data(float* dx, const float* dy, const float* w, const float* gate,
                         const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dx != nullptr && dy != nullptr && w != nullptr);
  const GemmOutput out{.data = dx, .rows = shape.n, .cols = shape.in, .gate = gate};
  with_gemm_tile(out.rows, out.cols, 1, [&](auto tile) {
    using Tile = decltype(tile);
    launch(dense_backward_data_kernel<Tile>, gemm_grid<Tile>(out.rows, out.cols, 1),
           dim3(Tile::kThreads), 0, stream, out, MatrixSource(dy, shape.n, shape.out),
           MatrixSource(w, shape.in, shape.out));
  });
}

// One thread per value of dx.
__global__ void dense_backward_data_naive_kernel(float* dx, const float* dy, const float* w,
                                                 const float* gate, DenseShape shape) {
  const int64_t index = element_index();
  if (index >= int64_t(shape.input_size())) return;
  const int64_t n = index / shape.in, i = index % shape.in;
  float sum = 0;
  for (int64_t o = 0; o < shape.out; ++o)
    sum = fmaf(dy[n * shape.out + o], w[i * shape.out + o], sum);
  dx[index] = gate == nullptr ? sum : gated(sum, gate[index]);
}

void dense_backward_data_naive(float* dx, const float* dy, const float* w, const float* gate,
                               const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dx != nullptr && dy != nullptr && w != nullptr);
  launch(dense_backward_data_naive_kernel, elementwise_grid(shape.input_size()), dim3(kBlockSize),
         0, stream, dx, dy, w, gate, shape);
}

// ---- filter ------------------------------------------------------------------------------------
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dense_backward_filter_kernel(GemmOutput dw, MatrixSource x, MatrixSource dy) {
  gemm<Tile, Along::kMn, Along::kMn>(dw, x, dy, 0, x.rows);
}

void dense_backward_filter(float* dw, const float* x, const float* dy, const DenseShape& shape,
                           cudaStream_t stream) {
  check_shape(shape);
  CHECK(dw != nullptr && x != nullptr && dy != nullptr);
  const GemmOutput out{.data = dw, .rows = shape.in, .cols = shape.out};
  with_gemm_tile(out.rows, out.cols, 1, [&](auto tile) {
    using Tile = decltype(tile);
    launch(dense_backward_filter_kernel<Tile>, gemm_grid<Tile>(out.rows, out.cols, 1),
           dim3(Tile::kThreads), 0, stream, out, MatrixSource(x, shape.n, shape.in),
           MatrixSource(dy, shape.n, shape.out));
  });
}

// One thread per value of dw.
__global__ void dense_backward_filter_naive_kernel(float* dw, const float* x, const float* dy,
                                                   DenseShape shape) {
  const int64_t index = element_index();
  if (index >= int64_t(shape.filter_size())) return;
  const int64_t i = index / shape.out, o = index % shape.out;
  float sum = 0;
  for (int64_t n = 0; n < shape.n; ++n) sum = fmaf(x[n * shape.in + i], dy[n * shape.out + o], sum);
  dw[index] = sum;
}

void dense_backward_filter_naive(float* dw, const float* x, const float* dy,
                                 const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dw != nullptr && x != nullptr && dy != nullptr);
  launch(dense_backward_filter_naive_kernel, elementwise_grid(shape.filter_size()),
         dim3(kBlockSize), 0, stream, dw, x, dy, shape);
}

}  // namespace mnist::MNIST_TARGET
