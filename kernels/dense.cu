// Fully connected layer, as matrix products (gemm.cuh):
//   forward: y[n,o] = bias[o] + sum over i of x[n,i] w[i,o]
//   data:    dx[n,i] = sum over o of dy[n,o] w[i,o]
//   filter:  dw[i,o] = sum over n of x[n,i] dy[n,o]
// Every operand is used as it is stored; only the direction in which it is read differs. A row of
// ones below the transposed x makes the bias' gradient the last row of the filter's product. A
// small result with a long sum, as in a network's last layers, would leave a GPU idle: there,
// forward divides the sum among the threads of a block (dense_forward_split).
//
// Default network, N = 128: 1600 -> 128 and 128 -> 10. Grid and tile of each product (gemm.cuh):
//   forward     (8, 16) and (8, 2) blocks of dense_forward_split
//   data        (2, 25) wide tiles, dx [128,1600];           (4, 4) small ones, dx [128,128]
//   filter      (26, 2) wide tiles, dw and dbias [1601,128]; (5, 1) small ones, [129,10]
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
// y [N,out], x [N,in], w [in,out]; the mapping of gemm.cuh.
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dense_forward_kernel(GemmOutput y, MatrixSource x, MatrixSource w) {
  gemm<Tile, Along::kK, Along::kMn>(y, x, w, 0, w.rows);
}

// A block makes 16 x 8 outputs with 64 slices of 4 threads, which take turns on gemm_k, four
// neighbours at a time, straight from global memory. Thread t sums rows 4 (t % 4) to 4 (t % 4) + 3
// of the block's outputs, all 8 columns, in 32 registers, for slice t / 4:
//
//              gemm_k:  0-3      4-7             252-255    256-259
//   rows  0- 3         thread 0 thread 4 ...   thread 252  thread 0 ...
//   rows  4- 7         thread 1 thread 5       thread 253  thread 1
//   rows  8-11         thread 2 thread 6       thread 254  thread 2
//   rows 12-15         thread 3 thread 7       thread 255  thread 3
//
// For one turn it reads 12 vectors (4 of x, 8 of w) and does 128 multiply-adds. The 64 sums of an
// output meet in shared memory (33 KB) and are added in order by one of the first 128 threads.
//
// Default network, first layer (gemm_k = 1600): grid (8, 16), seven turns for slices 0 to 15, six
// for the others. Second layer (gemm_k = 128): grid (8, 2), one turn for slices 0 to 31.
struct SplitTile {
  static constexpr int kRows = 16, kCols = 8, kSlices = 64;
  static constexpr int kSliceThreads = kRows / 4, kThreads = kSlices * kSliceThreads;
  static constexpr int kOutputs = kRows * kCols, kVectors = 4 * kCols / 4;
};

// y [N,out], x [N,in], w [in,out], bias [out] or null. blockIdx is (16 rows, 8 columns) of y.
__global__ void __launch_bounds__(SplitTile::kThreads, 1)
    dense_forward_split_kernel(float* y, MatrixSource x, MatrixSource w, const float* bias,
                               bool relu) {
  using Tile = SplitTile;
  // Four vectors more than threads: what one warp reads at a time lies in different banks.
  __shared__ float4 sums[Tile::kVectors][Tile::kThreads + 4];
  const int slice = threadIdx.x / Tile::kSliceThreads;
  const int row = blockIdx.x * Tile::kRows + threadIdx.x % Tile::kSliceThreads * 4;
  const int col = blockIdx.y * Tile::kCols;

  ThreadTile<4, Tile::kCols, 4> acc;
  MatrixSource::Row rows[4];
  for (int i = 0; i < 4; ++i) rows[i] = x.row(row + i);
  const bool whole = w.aligned && col + Tile::kCols <= w.cols;
#pragma unroll 2
  for (int k = slice * 4; k < w.rows; k += Tile::kSlices * 4) {
    float4 a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = x.load4(rows[i], k);
    const float a_columns[4][4] = {{a[0].x, a[1].x, a[2].x, a[3].x},
                                   {a[0].y, a[1].y, a[2].y, a[3].y},
                                   {a[0].z, a[1].z, a[2].z, a[3].z},
                                   {a[0].w, a[1].w, a[2].w, a[3].w}};
    if (whole && k + 4 <= w.rows) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const void* b_row = __builtin_assume_aligned(w.row(k + i) + col, sizeof(float4));
        acc.add_product(a_columns[i], static_cast<const float*>(b_row));
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float4 b0 = w.load4(w.row(k + i), col), b1 = w.load4(w.row(k + i), col + 4);
        const float b_row[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
        acc.add_product(a_columns[i], b_row);
      }
    }
  }

#pragma unroll
  for (int v = 0; v < Tile::kVectors; ++v) sums[v][threadIdx.x] = acc.at(v / 2, v % 2 * 4);
  __syncthreads();  // all slices wrote their sums, the first threads read them
  if (threadIdx.x >= Tile::kOutputs) return;
  // Threads 0 to 127 make one output each: component of vector v of thread `from` of all slices.
  const int component = threadIdx.x % 4, from = threadIdx.x / 4 % Tile::kSliceThreads;
  const int v = threadIdx.x / (4 * Tile::kSliceThreads);
  const int out_row = blockIdx.x * Tile::kRows + from * 4 + v / 2;
  const int out_col = col + v % 2 * 4 + component;
  if (out_row >= x.rows || out_col >= w.cols) return;
  float sum = 0;
#pragma unroll 8
  for (int s = 0; s < Tile::kSlices; ++s)
    sum += reinterpret_cast<const float*>(&sums[v][s * Tile::kSliceThreads + from])[component];
  if (bias != nullptr) sum += bias[out_col];
  y[int64_t{out_row} * w.cols + out_col] = relu ? relu_of(sum) : sum;
}

void dense_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                   const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  const MatrixSource input(x, shape.n, shape.in), filter(w, shape.in, shape.out);
  const int64_t small_tiles =
      int64_t{ceil_div(shape.n, SmallTile::BM)} * ceil_div(shape.out, SmallTile::BN);
  if (small_tiles < kEnoughBlocks) {
    const dim3 grid(unsigned(ceil_div(shape.n, SplitTile::kRows)),
                    unsigned(ceil_div(shape.out, SplitTile::kCols)));
    launch(dense_forward_split_kernel, grid, dim3(SplitTile::kThreads), stream, y, input, filter,
           bias, relu);
    return;
  }
  const GemmOutput out{.data = y, .rows = shape.n, .cols = shape.out, .bias = bias, .relu = relu};
  launch_gemm([](auto tile) { return dense_forward_kernel<decltype(tile)>; }, out, stream, input,
              filter);
}

// y [N,out], x [N,in], w [in,out], bias [out] or null. One thread per value of y.
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
  launch(dense_forward_naive_kernel, elementwise_grid(shape.output_size()), dim3(kBlockSize),
         stream, y, x, w, bias, relu, shape);
}

// ---- data --------------------------------------------------------------------------------------
// dx [N,in], dy [N,out], w [in,out]; the mapping of gemm.cuh.
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
  launch_gemm([](auto tile) { return dense_backward_data_kernel<decltype(tile)>; }, out, stream,
              MatrixSource(dy, shape.n, shape.out), MatrixSource(w, shape.in, shape.out));
}

// dx, gate [N,in], dy [N,out], w [in,out]. One thread per value of dx.
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
         stream, dx, dy, w, gate, shape);
}

// ---- filter ------------------------------------------------------------------------------------
// dw [in,out], and [out] more in dw.last_row; x [N,in], dy [N,out]. The mapping of gemm.cuh.
template <typename Tile, typename Input>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dense_backward_filter_kernel(GemmOutput dw, Input x, MatrixSource dy) {
  gemm<Tile, Along::kMn, Along::kMn>(dw, x, dy, 0, x.rows);
}

void dense_backward_filter(float* dw, float* dbias, const float* x, const float* dy,
                           const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dw != nullptr && x != nullptr && dy != nullptr);
  const GemmOutput out{.data = dw, .rows = shape.in, .cols = shape.out, .last_row = dbias};
  const MatrixSource input(x, shape.n, shape.in), gradient(dy, shape.n, shape.out);
  const auto run = [&](const auto& source) {
    using Input = std::decay_t<decltype(source)>;
    launch_gemm([](auto tile) { return dense_backward_filter_kernel<decltype(tile), Input>; }, out,
                stream, source, gradient);
  };
  dbias != nullptr ? run(WithOnes(input)) : run(input);
}

// dw [in,out], dbias [out] or null, x [N,in], dy [N,out]. One thread per value of dw, and one per
// value of dbias.
__global__ void dense_backward_filter_naive_kernel(float* dw, float* dbias, const float* x,
                                                   const float* dy, DenseShape shape) {
  const int64_t index = element_index();
  const int64_t i = index / shape.out, o = index % shape.out;
  const bool is_bias = i == shape.in;
  if (i > shape.in || (is_bias && dbias == nullptr)) return;
  float sum = 0;
  for (int64_t n = 0; n < shape.n; ++n)
    sum = fmaf(is_bias ? 1.0f : x[n * shape.in + i], dy[n * shape.out + o], sum);
  (is_bias ? dbias[o] : dw[index]) = sum;
}

void dense_backward_filter_naive(float* dw, float* dbias, const float* x, const float* dy,
                                 const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dw != nullptr && x != nullptr && dy != nullptr);
  launch(dense_backward_filter_naive_kernel, elementwise_grid(shape.filter_size() + shape.out),
         dim3(kBlockSize), stream, dw, dbias, x, dy, shape);
}

}  // namespace mnist::MNIST_TARGET
