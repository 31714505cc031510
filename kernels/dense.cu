// Fully connected layer, as matrix products (gemm.cuh):
//   forward: y[n,o] = bias[o] + sum over i of x[n,i] w[i,o]
//   data:    dx[n,i] = sum over o of dy[n,o] w[i,o]
//   filter:  dw[i,o] = sum over n of x[n,i] dy[n,o]
// Every operand is used as it is stored; only the direction in which it is read differs. A row of
// ones below the transposed x makes the bias' gradient the last row of the filter's product. A
// small result, as in a network's last layers, would leave a GPU idle: there,
// forward divides the sum among the threads of a block (dense_forward_split).
//
// Default network, N = 128: 1600 -> 128 and 128 -> 10. Grid and tile of each product (gemm.cuh):
//   forward     (8, 16) and (8, 2) blocks of dense_forward_split
//   data        (4, 50) small tiles, dx [128,1600];          (4, 4), dx [128,128]
//   filter      (51, 4) small tiles, dw and dbias [1601,128]; (5, 1), [129,10]
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

// Whether the result is so small that gemm.cuh would leave a GPU idle. It decides the order of the
// sums, so it does not depend on the target.
bool is_small(const DenseShape& shape) {
  return int64_t{ceil_div(shape.n, 32)} * ceil_div(shape.out, 32) < 130;
}

}  // namespace

// ---- forward -----------------------------------------------------------------------------------
// y [N,out], x [N,in], w [in,out]; the mapping of gemm.cuh.
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    dense_forward_kernel(GemmOutput y, MatrixSource x, MatrixSource w) {
  gemm<Tile, Along::kK, Along::kMn>(y, x, w, 0, w.rows);
}

template <int kBlockRows, int kColumns, int kTM, int kSlicesOfThread>
struct SplitTileOf {
  static constexpr int kRows = kBlockRows, kCols = kColumns, TM = kTM;
  static constexpr int kSlices = 64, kThreadSlices = kSlicesOfThread;
  static constexpr int kSliceThreads = kRows / TM;
  static constexpr int kThreads = kSlices / kThreadSlices * kSliceThreads;
  static constexpr int kOutputs = kRows * kCols, kVectors = TM * kCols / 4;
};

// gemm_k is divided into 64 slices, which take turns on it, four neighbours at a time, straight
// from global memory; the 64 sums of an output are then added in order. A block makes 16 x 8
// outputs with 4 threads a slice (as the GPU runs it; SplitTile is in lanes/thread_tile.cuh).
// Thread t sums rows 4 (t % 4) to 4 (t % 4) + 3 of the block's outputs, all 8 columns, in 32
// registers, for slice t / 4:
//
//              gemm_k:  0-3      4-7             252-255    256-259
//   rows  0- 3         thread 0 thread 4 ...   thread 252  thread 0 ...
//   rows  4- 7         thread 1 thread 5       thread 253  thread 1
//   rows  8-11         thread 2 thread 6       thread 254  thread 2
//   rows 12-15         thread 3 thread 7       thread 255  thread 3
//
// For one turn it reads 12 vectors (4 of x, 8 of w) and does 128 multiply-adds. The sums meet in
// shared memory (33 KB), where each of the first 128 threads adds those of one output.
//
// Default network, first layer (gemm_k = 1600): grid (8, 16), seven turns for slices 0 to 15, six
// for the others. Second layer (gemm_k = 128): grid (8, 2), one turn for slices 0 to 31.
//
// y [N,out], x [N,in], w [in,out], bias [out] or null. blockIdx is (16 rows, 8 columns) of y.
__global__ void __launch_bounds__(SplitTile::kThreads, 2)
    dense_forward_split_kernel(float* y, MatrixSource x, MatrixSource w, const float* bias,
                               bool relu) {
  using Tile = SplitTile;
  using Accumulators = ThreadTile<Tile::TM, Tile::kCols, 4>;
  // Four vectors more than threads: what one warp reads at a time lies in different banks.
  __shared__ float4 sums[Tile::kVectors][Tile::kThreads + 4];
  const int row = blockIdx.x * Tile::kRows + threadIdx.x % Tile::kSliceThreads * Tile::TM;
  const int col = blockIdx.y * Tile::kCols;
  const bool whole = x.aligned && w.aligned && col + Tile::kCols <= w.cols;
  // A row beyond the last, whose sums are dropped, reads the last one instead.
  MatrixSource::Row rows[Tile::TM];
  for (int i = 0; i < Tile::TM; ++i) rows[i] = x.row(min(row + i, x.rows - 1));

  const auto add_slice = [&](Accumulators& acc, int slice) INLINED {
    if (whole) {
      // Nothing is tested here, so that the loads of two turns are under way at a time.
#pragma unroll 2
      for (int k = slice * 4; k < w.rows; k += Tile::kSlices * 4) {
        const float* a[Tile::TM];
#pragma unroll
        for (int i = 0; i < Tile::TM; ++i) a[i] = rows[i] + k;
        acc.add_four_products(a, w.data + uint64_t{unsigned(k)} * unsigned(w.cols) + col, w.cols);
      }
      return;
    }
    for (int k = slice * 4; k < w.rows; k += Tile::kSlices * 4) {
      float4 a[Tile::TM], b[4][Tile::kCols / 4];
      const float* a_rows[Tile::TM];
#pragma unroll
      for (int i = 0; i < Tile::TM; ++i) {
        a[i] = x.aligned ? x.load4<true>(rows[i], k) : x.load4<false>(rows[i], k);
        a_rows[i] = &a[i].x;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::kCols / 4; ++j)
          b[i][j] = w.load4<false>(w.row(k + i), col + 4 * j);
      }
      acc.add_four_products(a_rows, &b[0][0].x, Tile::kCols);
    }
  };
  const int first_slice = threadIdx.x / Tile::kSliceThreads * Tile::kThreadSlices;
  Accumulators acc;
  add_slice(acc, first_slice);
  for (int i = 1; i < Tile::kThreadSlices; ++i) {
    Accumulators next;
    add_slice(next, first_slice + i);
    acc.add(next);
  }

  constexpr int kAcross = Tile::kCols / 4;
  unrolled<Tile::kVectors>(
      [&](auto v) INLINED { sums[v][threadIdx.x] = acc.at(v / kAcross, v % kAcross * 4); });
  __syncthreads();  // all slices wrote their sums, the first threads read them
  // Component of vector v of thread `from` of all slices.
  for (int output = threadIdx.x; output < Tile::kOutputs; output += Tile::kThreads) {
    const int component = output % 4, from = output / 4 % Tile::kSliceThreads;
    const int v = output / (4 * Tile::kSliceThreads);
    const int out_row = blockIdx.x * Tile::kRows + from * Tile::TM + v / kAcross;
    const int out_col = col + v % kAcross * 4 + component;
    if (out_row >= x.rows || out_col >= w.cols) continue;
    float sum = 0;
#pragma unroll 8
    for (int s = 0; s < Tile::kThreads / Tile::kSliceThreads; ++s)
      sum += reinterpret_cast<const float*>(&sums[v][s * Tile::kSliceThreads + from])[component];
    if (bias != nullptr) sum += bias[out_col];
    y[int64_t{out_row} * w.cols + out_col] = relu ? relu_of(sum) : sum;
  }
}

void dense_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                   const DenseShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  const MatrixSource input(x, shape.n, shape.in), filter(w, shape.in, shape.out);
  if (is_small(shape)) {
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
