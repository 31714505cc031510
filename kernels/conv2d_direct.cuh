// Convolution of one-channel images (a first layer), stride 1: a matrix product would be R*S deep
// only. A lane makes one output channel, a warp walks along a row of 2x2 output patches, whose
// (R+1) x (S+1) input pixels are the same for all lanes. The patch is also a pooling window.
#pragma once

#include "kernels/common.cuh"
#include "kernels/conv.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

inline bool conv2d_direct_fits(const ConvShape& shape) {
  return shape.c == 1 && shape.stride_h == 1 && shape.stride_w == 1;
}

// What happens to sums whose lanes are output channels.
struct DirectConvOutput {
  float* y;         // [N,P,Q,K], pooled [N,P/2,Q/2,K]
  uint8_t* argmax;  // of the pooled output, or null
  const float* bias;
  bool relu;

  __device__ __forceinline__ WarpFloat finished(WarpFloat sum, WarpFloat bias_k) const {
    sum = sum + bias_k;
    return relu ? warp_select(is_negative(sum), WarpFloat{}, sum) : sum;
  }

  // The largest of a window's four sums, the first of equal ones, to element `at` of y.
  __device__ __forceinline__ void store_window(const WarpFloat (&sums)[4], WarpFloat bias_k,
                                               int64_t at, int valid) const {
    WarpFloat best = finished(sums[0], bias_k);
    WarpInt place{};
    unrolled<3>([&](auto o) INLINED {
      const WarpFloat v = finished(sums[o + 1], bias_k);
      const WarpBool wins = v > best;
      best = warp_select(wins, v, best);
      place = warp_select(wins, o + 1, place);
    });
    warp_store(y + at, best, valid);
    if (argmax != nullptr) warp_store(argmax + at, place, valid);
  }
};

// Rows of patches are dealt out to the warps of a block; blockIdx is (image, 32 channels, -).
// kR x kS is the filter's size, 0 x 0 any.
template <bool kPool, int kR, int kS>
__global__ void __launch_bounds__(kBlockSize, 1)
    conv2d_direct_kernel(DirectConvOutput out, const float* x, const float* w, ConvShape shape) {
  if (!warp_works()) return;
  const int n = blockIdx.x, k = blockIdx.y * kWarpSize, valid = shape.k - k;
  const int r_count = kR > 0 ? kR : shape.r, s_count = kS > 0 ? kS : shape.s;
  const float* image = x + int64_t{n} * shape.h * shape.w;
  const WarpFloat bias = out.bias != nullptr ? warp_load(out.bias + k, valid) : WarpFloat{};
  const auto pixel = [&](int h, int col) {
    const bool inside = unsigned(h) < unsigned(shape.h) && unsigned(col) < unsigned(shape.w);
    return inside ? image[h * shape.w + col] : 0.0f;
  };

  WarpFloat filter[kR > 0 ? kR * kS : 1];
  if constexpr (kR > 0)
    unrolled<kR * kS>([&](auto t) INLINED { filter[t] = warp_load(w + t * shape.k + k, valid); });

  const int patch_rows = ceil_div(shape.p, 2), patch_cols = ceil_div(shape.q, 2);
  const int warps = blockDim.x / kWarpSize;
  for (int i = threadIdx.x / kWarpSize; i < patch_rows; i += warps) {
    const int top = 2 * i - shape.pad_h;
    [[maybe_unused]] float window[kR + 1][kS + 1];
    if constexpr (kR > 0)
      unrolled<kR + 1>([&](auto r) INLINED {
        unrolled<kS - 1>([&](auto s)
                             INLINED { window[r][s + 2] = pixel(top + r, s - shape.pad_w); });
      });
    for (int j = 0; j < patch_cols; ++j) {
      const int left = 2 * j - shape.pad_w;
      WarpFloat sum[4] = {};
      if constexpr (kR > 0) {
        unrolled<kR + 1>([&](auto r) INLINED {
          unrolled<kS - 1>([&](auto s) INLINED { window[r][s] = window[r][s + 2]; });
          window[r][kS - 1] = pixel(top + r, left + kS - 1);
          window[r][kS] = pixel(top + r, left + kS);
        });
        unrolled<kR * kS>([&](auto t) INLINED {
          constexpr int r = t / kS, s = t % kS;
          unrolled<4>([&](auto o) INLINED {
            sum[o] = warp_fma(window[r + o / 2][s + o % 2], filter[t], sum[o]);
          });
        });
      } else {
        for (int r = 0; r < r_count; ++r) {
          for (int s = 0; s < s_count; ++s) {
            const WarpFloat filter_rs = warp_load(w + (r * s_count + s) * shape.k + k, valid);
            unrolled<4>([&](auto o) INLINED {
              sum[o] = warp_fma(pixel(top + r + o / 2, left + s + o % 2), filter_rs, sum[o]);
            });
          }
        }
      }
      if constexpr (kPool) {
        const int64_t at = ((int64_t{n} * patch_rows + i) * patch_cols + j) * shape.k + k;
        out.store_window(sum, bias, at, valid);
      } else {
        unrolled<4>([&](auto o) INLINED {
          const int p = 2 * i + o / 2, q = 2 * j + o % 2;
          if (p < shape.p && q < shape.q)
            warp_store(out.y + ((int64_t{n} * shape.p + p) * shape.q + q) * shape.k + k,
                       out.finished(sum[o], bias), valid);
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
  const auto kernel = shape.r == 3 && shape.s == 3 ? conv2d_direct_kernel<kPool, 3, 3>
                                                   : conv2d_direct_kernel<kPool, 0, 0>;
  launch(kernel, dim3(unsigned(shape.n), unsigned(channel_blocks)),
         dim3(unsigned(even_warps(ceil_div(shape.p, 2)) * kWarpSize)), 0, stream, out, x, w, shape);
}

}  // namespace mnist::MNIST_TARGET
