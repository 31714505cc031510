// Convolution forward, NHWC (*) HWIO -> NHWC:
//   y[n,p,q,k] = bias[k] + sum over r,s,c of x[n, p*stride_h-pad_h+r, q*stride_w-pad_w+s, c]
//   w[r,s,c,k]
// as an implicit matrix product (gemm.cuh): gemm_m = N*P*Q, gemm_n = K, gemm_k = R*S*C. The HWIO
// filter is the second operand as it is stored; the first, the unfolded input (WindowSource), is
// never stored. One-channel input goes to conv2d_direct.cuh. The default network does not come
// here: both its convolutions have a pooling after them (conv2d_pool_forward.cu).
#include "kernels/conv2d_direct.cuh"
#include "kernels/conv_sources.cuh"
#include "kernels/gemm.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

// y [N*P*Q, K], x [N*P*Q, R*S*C], w [R*S*C, K]; the mapping of gemm.cuh.
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    conv2d_forward_kernel(GemmOutput y, WindowSource x, MatrixSource w) {
  gemm<Tile, Along::kK, Along::kMn>(y, x, w, 0, x.cols);
}

void conv2d_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                    const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  if (conv2d_direct_fits(shape))
    return conv2d_direct<false>({y, nullptr, bias, relu}, x, w, shape, stream);
  const WindowSource windows(x, shape);
  const MatrixSource filter(w, windows.cols, shape.k);
  const GemmOutput out{
      .data = y, .rows = windows.rows, .cols = shape.k, .bias = bias, .relu = relu};
  launch_gemm([](auto tile) { return conv2d_forward_kernel<decltype(tile)>; }, out, stream, windows,
              filter);
}

// ---- naive -------------------------------------------------------------------------------------
// y [N,P,Q,K], x [N,H,W,C], w [R,S,C,K], bias [K] or null. One thread per value of y.
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
  launch(conv2d_forward_naive_kernel, elementwise_grid(shape.output_size()), dim3(kBlockSize),
         stream, y, x, w, bias, relu, shape);
}

}  // namespace mnist::MNIST_TARGET
