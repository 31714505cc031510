// Convolution backward, as implicit matrix products (gemm.cuh, conv_sources.cuh):
//   data:   dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] w[r,s,c,k], p and q such that window (p,q)
//           holds (h,w) at (r,s):           gemm_m = N*H*W, gemm_n = C, gemm_k = R*S*K
//   filter: dw[r,s,c,k] = sum over n,p,q of x[n,h,w,c] dy[n,p,q,k]:
//                                           gemm_m = R*S*C, gemm_n = K, gemm_k = N*P*Q
// The filter's sum is long and its result small, so gemm_k is divided into slices of at least 256
// positions, as many as make 256 blocks, that blocks sum side by side (split-K); sum_rows adds them
// in order. The division depends on the shape alone. A row of ones below the unfolded x makes the
// bias' gradient the last row of the same product. The default network does not come here: see
// conv2d_pool_backward.cu.
#include "kernels/conv_sources.cuh"
#include "kernels/gemm.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/sum_rows.cuh"

namespace mnist::MNIST_TARGET {

// ---- data --------------------------------------------------------------------------------------
// dx [N*H*W, C], dy [N*H*W, R*S*K], w [C, R*S*K]; the mapping of gemm.cuh.
template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    conv2d_backward_data_kernel(GemmOutput dx, OutputGradientSource dy, FilterSource w) {
  gemm<Tile, Along::kK, Along::kK>(dx, dy, w, 0, dy.cols);
}

void conv2d_backward_data(float* dx, const float* dy, const float* w, const float* gate,
                          const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dx != nullptr && dy != nullptr && w != nullptr);
  const OutputGradientSource gradient(dy, shape);
  const FilterSource filter(w, shape);
  const GemmOutput out{.data = dx, .rows = gradient.rows, .cols = shape.c, .gate = gate};
  launch_gemm([](auto tile) { return conv2d_backward_data_kernel<decltype(tile)>; }, out, stream,
              gradient, filter);
}

// dx, gate [N,H,W,C], dy [N,P,Q,K], w [R,S,C,K]. One thread per value of dx.
__global__ void conv2d_backward_data_naive_kernel(float* dx, const float* dy, const float* w,
                                                  const float* gate, ConvShape shape) {
  const int64_t index = element_index();
  if (index >= int64_t(shape.input_size())) return;
  const int c = int(index % shape.c), col = int(index / shape.c % shape.w);
  const int h = int(index / shape.c / shape.w % shape.h);
  const int64_t n = index / shape.c / shape.w / shape.h;

  float sum = 0;
  for (int r = 0; r < shape.r; ++r) {
    for (int s = 0; s < shape.s; ++s) {
      const int top = h + shape.pad_h - r, left = col + shape.pad_w - s;
      if (top < 0 || top % shape.stride_h != 0 || left < 0 || left % shape.stride_w != 0) continue;
      const int p = top / shape.stride_h, q = left / shape.stride_w;
      if (p >= shape.p || q >= shape.q) continue;
      for (int k = 0; k < shape.k; ++k)
        sum = fmaf(dy[((n * shape.p + p) * shape.q + q) * shape.k + k],
                   w[((int64_t{r} * shape.s + s) * shape.c + c) * shape.k + k], sum);
    }
  }
  dx[index] = gate == nullptr ? sum : gated(sum, gate[index]);
}

void conv2d_backward_data_naive(float* dx, const float* dy, const float* w, const float* gate,
                                const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dx != nullptr && dy != nullptr && w != nullptr);
  launch(conv2d_backward_data_naive_kernel, elementwise_grid(shape.input_size()), dim3(kBlockSize),
         stream, dx, dy, w, gate, shape);
}

// ---- filter ------------------------------------------------------------------------------------
namespace {

// How gemm_k = N*P*Q is divided.
struct Slices {
  int count;
  int length;  // of all but the last; a multiple of every tile's BK
};

constexpr int64_t kWantedBlocks = 256;
constexpr int64_t kShortestSlice = 256;

// By the shape alone, whichever tiles a target then takes: a block is thought to make 64 x 64.
Slices divide(int64_t gemm_m, int64_t gemm_n, int64_t gemm_k) {
  constexpr int64_t kTile = 64, kStep = 64;  // whole steps of every tile
  static_assert(kStep % WideTile::BK == 0 && kStep % NarrowTile::BK == 0 &&
                kStep % SmallTile::BK == 0);
  const int64_t tiles = ceil_div(gemm_m, kTile) * ceil_div(gemm_n, kTile);
  const int64_t wanted = min(ceil_div(kWantedBlocks, tiles), ceil_div(gemm_k, kShortestSlice));
  const int64_t length = ceil_div(ceil_div(gemm_k, wanted), kStep) * kStep;
  return {int(ceil_div(gemm_k, length)), int(length)};
}

}  // namespace

// dw, and after it dbias, as one row of numbers.
struct FilterAndBias {
  float* dw;
  float* dbias;
  int dw_size;

  __device__ void store(int at, float4 v, int valid) const {
    if (at + 3 < dw_size || dbias == nullptr) {
      store4(dw + at, v, min(valid, dw_size - at), dw_size % 4 == 0);
      return;
    }
    const float values[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < min(valid, 4); ++i)
      (at + i < dw_size ? dw[at + i] : dbias[at + i - dw_size]) = values[i];
  }
};

// dw [R*S*C, K], or one [slices][R*S*C, K]; x [N*P*Q, R*S*C], dy [N*P*Q, K]. The mapping of
// gemm.cuh with slice blockIdx.z, which sums positions blockIdx.z * slice_length and on.
template <typename Tile, typename Windows>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    conv2d_backward_filter_kernel(GemmOutput dw, int64_t slice_size, int slice_length, Windows x,
                                  MatrixSource dy) {
  const int begin = blockIdx.z * slice_length;
  dw.data += blockIdx.z * slice_size;
  gemm<Tile, Along::kMn, Along::kMn>(dw, x, dy, begin, min(begin + slice_length, x.rows));
}

size_t conv2d_backward_filter_workspace(const ConvShape& shape) {
  check_shape(shape);
  const Slices slices = divide(int64_t{shape.r} * shape.s * shape.c + 1, shape.k,
                               int64_t{shape.n} * shape.p * shape.q);
  return slices.count == 1 ? 0 : size_t(slices.count) * (shape.filter_size() + shape.k);
}

void conv2d_backward_filter(float* dw, float* dbias, float* workspace, const float* x,
                            const float* dy, const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(shape.filter_size() <= size_t(INT32_MAX / 2));
  CHECK(dw != nullptr && x != nullptr && dy != nullptr);
  CHECK(workspace != nullptr || conv2d_backward_filter_workspace(shape) == 0);
  const WindowSource windows(x, shape);
  const MatrixSource gradient(dy, windows.rows, shape.k);
  // The same slices with and without bias, for the same dw.
  const Slices slices = divide(windows.cols + 1, shape.k, windows.rows);
  const int rows = windows.cols + (dbias != nullptr ? 1 : 0);
  const int64_t size = int64_t{rows} * shape.k;
  const GemmOutput out =
      slices.count == 1
          ? GemmOutput{.data = dw, .rows = windows.cols, .cols = shape.k, .last_row = dbias}
          : GemmOutput{.data = workspace, .rows = rows, .cols = shape.k};
  dispatch_gemm_tile(rows, shape.k, slices.count, [&](auto tile) {
    using Tile = decltype(tile);
    const auto run = [&](const auto& source) {
      launch_gemm<Tile>(conv2d_backward_filter_kernel<Tile, std::decay_t<decltype(source)>>, out,
                        slices.count, stream, size, slices.length, source, gradient);
    };
    dbias != nullptr ? run(WithOnes(windows)) : run(windows);
  });
  if (slices.count > 1)
    sum_rows(FilterAndBias{dw, dbias, int(shape.filter_size())}, workspace, slices.count, size,
             stream);
}

// dw [R,S,C,K], dbias [K] or null, x [N,H,W,C], dy [N,P,Q,K]. One thread per value of dw, and one
// per value of dbias.
__global__ void conv2d_backward_filter_naive_kernel(float* dw, float* dbias, const float* x,
                                                    const float* dy, ConvShape shape) {
  const int64_t index = element_index(), bias_index = index - int64_t(shape.filter_size());
  if (bias_index >= 0) {
    if (bias_index >= shape.k || dbias == nullptr) return;
    float sum = 0;
    for (int64_t at = bias_index; at < int64_t(shape.output_size()); at += shape.k) sum += dy[at];
    dbias[bias_index] = sum;
    return;
  }
  const int k = int(index % shape.k), c = int(index / shape.k % shape.c);
  const int s = int(index / shape.k / shape.c % shape.s);
  const int r = int(index / shape.k / shape.c / shape.s);

  float sum = 0;
  for (int64_t n = 0; n < shape.n; ++n) {
    for (int p = 0; p < shape.p; ++p) {
      for (int q = 0; q < shape.q; ++q) {
        const int h = p * shape.stride_h - shape.pad_h + r;
        const int col = q * shape.stride_w - shape.pad_w + s;
        if (h < 0 || h >= shape.h || col < 0 || col >= shape.w) continue;
        sum = fmaf(x[((n * shape.h + h) * shape.w + col) * shape.c + c],
                   dy[((n * shape.p + p) * shape.q + q) * shape.k + k], sum);
      }
    }
  }
  dw[index] = sum;
}

void conv2d_backward_filter_naive(float* dw, float* dbias, const float* x, const float* dy,
                                  const ConvShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dw != nullptr && x != nullptr && dy != nullptr);
  launch(conv2d_backward_filter_naive_kernel, elementwise_grid(shape.filter_size() + shape.k),
         dim3(kBlockSize), stream, dw, dbias, x, dy, shape);
}

}  // namespace mnist::MNIST_TARGET
