// Convolution forward, NHWC (*) HWIO -> NHWC:
//   y[n,p,q,k] = bias[k] + sum over r,s,c of x[n, p*stride_h-pad_h+r, q*stride_w-pad_w+s, c]
//   w[r,s,c,k]
// as an implicit matrix product (gemm.cuh): gemm_m = N*P*Q, gemm_n = K, gemm_k = R*S*C. The HWIO
// filter is the second operand as it stands; the first, the unfolded input, is never stored. With
// pooling, the four outputs of a window are four neighbouring rows, which one thread sums: it picks
// the largest out of its registers. One-channel input goes to conv2d_direct.cuh.
#include "kernels/conv.cuh"
#include "kernels/conv2d_direct.cuh"
#include "kernels/gemm.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    conv2d_forward_kernel(GemmOutput y, WindowSource<> x, MatrixSource w) {
  gemm<Tile, Along::kK, Along::kMn>(y, x, w, 0, x.cols);
}

void conv2d_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                    const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  if (conv2d_direct_fits(shape))
    return conv2d_direct<false>({y, nullptr, bias, relu}, x, w, shape, stream);
  const WindowSource<> windows(x, shape);
  const MatrixSource filter(w, windows.cols, shape.k);
  const GemmOutput out{
      .data = y, .rows = windows.rows, .cols = shape.k, .bias = bias, .relu = relu};
  with_gemm_tile(out.rows, out.cols, 1, [&](auto tile) {
    using Tile = decltype(tile);
    launch(conv2d_forward_kernel<Tile>, gemm_grid<Tile>(out.rows, out.cols, 1),
           dim3(Tile::kThreads), 0, stream, out, windows, filter);
  });
}

// ---- with pooling ------------------------------------------------------------------------------
// y and argmax [windows, cols]; rows 4w to 4w+3 of the product are the outputs of window w.
struct PooledOutput {
  float* y;
  uint8_t* argmax;  // may be null
  int windows;
  int cols;
  const float* bias;
  bool relu;

  template <typename Accumulators>
  __device__ __forceinline__ void store(const Accumulators& acc, int row, int col) const {
    static_assert(Accumulators::kRows % 4 == 0);
#pragma unroll
    for (int i = 0; i < Accumulators::kRows; i += 4) {
#pragma unroll
      for (int j = 0; j < Accumulators::kCols; j += 4)
        store_window((row + acc.row(i)) / 4, col + j, acc.at(i, j), acc.at(i + 1, j),
                     acc.at(i + 2, j), acc.at(i + 3, j));
    }
  }

 private:
  __device__ void store_window(int window, int col, float4 v0, float4 v1, float4 v2,
                               float4 v3) const {
    const int valid = window < windows ? cols - col : 0;
    if (valid <= 0) return;
    const bool aligned = cols % 4 == 0;
    const float4 rows[4] = {finished(v0, bias, relu, col, valid, aligned),
                            finished(v1, bias, relu, col, valid, aligned),
                            finished(v2, bias, relu, col, valid, aligned),
                            finished(v3, bias, relu, col, valid, aligned)};
    float4 best = rows[0];
    uchar4 place = make_uchar4(0, 0, 0, 0);
#pragma unroll
    for (int i = 1; i < 4; ++i) {
      const auto take = [i](float& largest, unsigned char& at, float v) {
        const bool wins = v > largest;
        largest = wins ? v : largest;
        at = wins ? static_cast<unsigned char>(i) : at;
      };
      take(best.x, place.x, rows[i].x);
      take(best.y, place.y, rows[i].y);
      take(best.z, place.z, rows[i].z);
      take(best.w, place.w, rows[i].w);
    }
    const size_t at = size_t(window) * cols + col;
    store4(y + at, best, valid, aligned);
    if (argmax != nullptr) store4(argmax + at, place, valid, aligned);
  }
};

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    conv2d_pool_forward_kernel(PooledOutput y, WindowSource<OutputOrder::kPooled> x,
                               MatrixSource w) {
  gemm<Tile, Along::kK, Along::kMn>(y, x, w, 0, x.cols);
}

void conv2d_pool_forward(float* y, uint8_t* argmax, const float* x, const float* w,
                         const float* bias, bool relu, const ConvShape& shape,
                         cudaStream_t stream) {
  check_shape(shape);
  CHECK(shape.p % 2 == 0 && shape.q % 2 == 0);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  if (conv2d_direct_fits(shape))
    return conv2d_direct<true>({y, argmax, bias, relu}, x, w, shape, stream);
  const WindowSource<OutputOrder::kPooled> windows(x, shape);
  const MatrixSource filter(w, windows.cols, shape.k);
  const PooledOutput out{y, argmax, windows.rows / 4, shape.k, bias, relu};
  with_gemm_tile(windows.rows, out.cols, 1, [&](auto tile) {
    using Tile = decltype(tile);
    launch(conv2d_pool_forward_kernel<Tile>, gemm_grid<Tile>(windows.rows, out.cols, 1),
           dim3(Tile::kThreads), 0, stream, out, windows, filter);
  });
}

// ---- plain -------------------------------------------------------------------------------------
// One thread per output value.
__global__ void conv2d_forward_naive_kernel(float* y, const float* x, const float* w,
                                            const float* bias, bool relu, ConvShape shape) {
  const int64_t index = element_index();
  if (index >= int64_t(shape.output_size())) return;
  const int k = int(index % shape.k), q = int(index / shape.k % shape.q);
  const int p = int(index / shape.k / shape.q % shape.p);
  const int64_t n = index / shape.k / shape.q / shape.p;

  float sum = 0;
  for (int r = 0; r < shape.r; ++r) {
    for (int s = 0; s < shape.s; ++s) {
      const int h = p * shape.stride_h - shape.pad_h + r,
                col = q * shape.stride_w - shape.pad_w + s;
      if (h < 0 || h >= shape.h || col < 0 || col >= shape.w) continue;
      for (int c = 0; c < shape.c; ++c)
        sum = fmaf(x[((n * shape.h + h) * shape.w + col) * shape.c + c],
                   w[((int64_t{r} * shape.s + s) * shape.c + c) * shape.k + k], sum);
    }
  }
  if (bias != nullptr) sum += bias[k];
  y[index] = relu ? relu_of(sum) : sum;
}

void conv2d_forward_naive(float* y, const float* x, const float* w, const float* bias, bool relu,
                          const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  launch(conv2d_forward_naive_kernel, elementwise_grid(shape.output_size()), dim3(kBlockSize), 0,
         stream, y, x, w, bias, relu, shape);
}

}  // namespace mnist::MNIST_TARGET
