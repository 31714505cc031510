// Convolution of one-channel images with stride 1, as in a first layer, with bias, ReLU and, if
// kPool, the 2x2 max pooling after it:
//   y[n,p,q,k] = max(0, bias[k] + sum over r,s of x[n, p-pad_h+r, q-pad_w+s] w[r,s,k])
// As a matrix product it would be R*S = 9 deep only, too little to pay for the way through shared
// memory. Instead, lanes are output channels, each with its nine filter values in registers. A warp
// walks along a row of 2x2 patches of outputs; the 4x4 pixels that such a patch needs are the same
// for all lanes, and eight of them are new at each step (sliding_patch.cuh): 8 loads of one address
// for 36 multiply-adds. A patch of outputs is also a pooling window.
//
// Default network: x [128,28,28,1], w [3,3,1,32], y [128,12,12,32] pooled. Only P = Q = 24 of 26
// rows and columns are computed: no later pooling keeps anything of the others. Grid (128, 1),
// block 384 = 12 warps. Block (n, 0) makes image n; its warp w makes row w of the twelve rows of
// windows, in twelve steps; lane l makes channel l. No shared memory. A window's maximum leaves in
// one store of 128 bytes a warp, its index in one of 32.
#pragma once

#include "kernels/common.cuh"
#include "kernels/constant_shape.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/shapes.h"
#include "kernels/sliding_patch.cuh"

namespace mnist::MNIST_TARGET {

inline bool conv2d_direct_fits(const ConvShape& shape) {
  return shape.c == 1 && shape.stride_h == 1 && shape.stride_w == 1;
}

// What happens to sums whose lanes are output channels.
struct DirectConvOutput {
  float* y;           // [N,P,Q,K]; pooled [N,P/2,Q/2,K]
  uint8_t* argmax;    // [N,P/2,Q/2,K], or null
  const float* bias;  // [K], or null
  bool relu;

  __device__ __forceinline__ WarpFloat epilogue(WarpFloat sum, WarpFloat bias_k) const {
    sum = sum + bias_k;
    return relu ? warp_select(is_negative(sum), WarpFloat{}, sum) : sum;
  }

  // Stores the largest of a window's four outputs, the first of equal ones, as element `at` of y,
  // and its index 2a + b in argmax.
  __device__ __forceinline__ void store_window(const WarpFloat (&sums)[2][2], WarpFloat bias_k,
                                               int64_t at, int valid) const {
    WarpFloat best = epilogue(sums[0][0], bias_k);
    WarpInt best_index{};
    unrolled2<2, 2>([&](auto a, auto b) INLINED {
      if constexpr (a + b > 0) {
        const WarpFloat v = epilogue(sums[a][b], bias_k);
        const WarpBool wins = v > best;
        best = warp_select(wins, v, best);
        best_index = warp_select(wins, 2 * a + b, best_index);
      }
    });
    warp_store(y + at, best, valid);
    if (argmax != nullptr) warp_store(argmax + at, best_index, valid);
  }
};

inline constexpr int kMostDirectThreads = 384;

// x [N,H,W], w [R,S,K], out.y [N,P,Q,K] or pooled. blockIdx is (image, group of 32 channels); the
// block's warps take turns on the rows of patches. kR x kS is the filter's size, 0 x 0 any.
template <bool kPool, int kR, int kS, typename Shape>
__global__ void __launch_bounds__(kMostDirectThreads, 1)
    conv2d_direct_kernel(DirectConvOutput out, const float* x, const float* w, Shape shape) {
  if (!warp_works()) return;
  const int n = blockIdx.x, k = blockIdx.y * kWarpSize;
  const int valid = shape.k % kWarpSize == 0 ? kWarpSize : shape.k - k;
  const int r_count = kR > 0 ? kR : shape.r, s_count = kS > 0 ? kS : shape.s;
  const float* image = x + int64_t{n} * shape.h * shape.w;
  const WarpFloat bias = out.bias != nullptr ? warp_load(out.bias + k, valid) : WarpFloat{};
  const auto pixel = [&](int h, int col) {
    const bool inside = kIsConstant<Shape> ||
                        (unsigned(h) < unsigned(shape.h) && unsigned(col) < unsigned(shape.w));
    return inside ? image[h * shape.w + col] : 0.0f;
  };

  [[maybe_unused]] WarpFloat filter[kR + 1][kS + 1];  // kR x kS; C++ has no empty array
  if constexpr (kR > 0)
    unrolled2<kR, kS>([&](auto r, auto s) INLINED {
      filter[r][s] = warp_load(w + (r * kS + s) * shape.k + k, valid);
    });

  const int patch_rows = ceil_div(shape.p, 2), patch_cols = ceil_div(shape.q, 2);
  const int warps = blockDim.x / kWarpSize;
  [[maybe_unused]] constexpr int kUnroll = kIsConstant<Shape> ? 4 : 1;
  for (int i = threadIdx.x / kWarpSize; i < patch_rows; i += warps) {
    const int top = 2 * i - shape.pad_h;  // of the patch's input
    [[maybe_unused]] SlidingPatch<float, kR + 1, kS + 1> patch;
    if constexpr (kR > 0) patch.begin(top, -shape.pad_w, pixel);
#pragma unroll kUnroll
    for (int j = 0; j < patch_cols; ++j) {
      const int left = 2 * j - shape.pad_w;
      WarpFloat sum[2][2] = {};
      if constexpr (kR > 0) {
        patch.move_to(top, left, pixel);
        unrolled2<kR, kS>([&](auto r, auto s) INLINED {
          unrolled2<2, 2>([&](auto a, auto b) INLINED {
            sum[a][b] = warp_fma(patch.at[r + a][s + b], filter[r][s], sum[a][b]);
          });
        });
      } else {
        for (int r = 0; r < r_count; ++r) {
          for (int s = 0; s < s_count; ++s) {
            const WarpFloat filter_rs = warp_load(w + (r * s_count + s) * shape.k + k, valid);
            unrolled2<2, 2>([&](auto a, auto b) INLINED {
              sum[a][b] = warp_fma(pixel(top + r + a, left + s + b), filter_rs, sum[a][b]);
            });
          }
        }
      }
      if constexpr (kPool) {
        const int64_t at = ((int64_t{n} * patch_rows + i) * patch_cols + j) * shape.k + k;
        out.store_window(sum, bias, at, valid);
      } else {
        unrolled2<2, 2>([&](auto a, auto b) INLINED {
          const int p = 2 * i + a, q = 2 * j + b;
          if (p < shape.p && q < shape.q)
            warp_store(out.y + ((int64_t{n} * shape.p + p) * shape.q + q) * shape.k + k,
                       out.epilogue(sum[a][b], bias), valid);
        });
      }
    }
  }
}

template <bool kPool>
void conv2d_direct(const DirectConvOutput& out, const float* x, const float* w,
                   const ConvShape& shape, cudaStream_t stream) {
  CHECK(conv2d_direct_fits(shape));
  const int channel_blocks = ceil_div(shape.k, kWarpSize);
  CHECK(channel_blocks <= 65535);
  const dim3 grid{unsigned(shape.n), unsigned(channel_blocks)};
  const dim3 block{
      unsigned(balanced_warps(ceil_div(shape.p, 2), kMostDirectThreads / kWarpSize) * kWarpSize)};
  if constexpr (kPool)
    if (DefaultConv1::is(shape)) {
      const auto kernel = conv2d_direct_kernel<kPool, 3, 3, DefaultConv1>;
      return launch(kernel, grid, block, stream, out, x, w, DefaultConv1{shape.n});
    }
  const auto is_square = [&](int size) { return shape.r == size && shape.s == size; };
  const auto kernel = is_square(3)   ? conv2d_direct_kernel<kPool, 3, 3, ConvShape>
                      : is_square(5) ? conv2d_direct_kernel<kPool, 5, 5, ConvShape>
                                     : conv2d_direct_kernel<kPool, 0, 0, ConvShape>;
  launch(kernel, grid, block, stream, out, x, w, shape);
}

}  // namespace mnist::MNIST_TARGET
