// A 3x3 convolution with stride 1 and the 2x2 max pooling after it in one pass:
//   y[n,i,j,k] = the largest of conv(x)[n, 2i+a, 2j+b, k], a, b in {0,1}; argmax = 2a + b
//
// As a matrix product it is positions x output channels, and its sums never leave the registers:
// lanes are output channels, and a warp sums the outputs of kWindows = 5 neighbouring windows, two
// rows of ten. They need four rows of twelve pixels:
//
//   . . . . . . . . . . . .     row 0 meets tap row 0 of the outputs' row a = 0,
//   . . . . . . . . . . . .     row 1 tap row 1 of a = 0 and tap row 0 of a = 1,
//   . . . . . . . . . . . .     row 2 tap row 2 of a = 0 and tap row 1 of a = 1,
//   . . . . . . . . . . . .     row 3 tap row 2 of a = 1
//
// so a pixel, which is the same for all lanes, serves up to six multiply-adds, and a filter value,
// read as a whole line, ten. Filter and input come out of the caches; nothing is shared between
// warps, there is no barrier, and bias, ReLU, maximum and argmax happen in registers.
//
// Default network, second convolution: x [128,12,12,32], w [3,3,32,64], y [128,5,5,64]: 640 rows of
// windows. Grid 640, block 64 = 2 warps. Warp v of block b makes row b % 5 of image b / 5, lane l
// channel 32v + l. In each of eight steps it takes four input channels: 48 vectors of 16 bytes,
// each the same for all lanes, and 36 filter lines of 128 bytes, for 720 multiply-adds.
//
// Order of a sum: input channels by fours; in these, filter rows, channels, filter columns.
//
// One-channel input goes to conv2d_direct.cuh.
#include "kernels/common.cuh"
#include "kernels/constant_shape.cuh"
#include "kernels/conv2d_direct.cuh"
#include "kernels/conv_sources.cuh"
#include "kernels/kernels.h"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

bool conv2d_pool_fits(const ConvShape& shape) {
  check_shape(shape);
  return shape.r == 3 && shape.s == 3 && shape.stride_h == 1 && shape.stride_w == 1 &&
         shape.p % 2 == 0 && shape.q % 2 == 0;
}

inline constexpr int kWindows = 5;           // of a warp: 20 sums a lane
inline constexpr int kPoolForwardWarps = 2;  // small blocks spread evenly, and share nothing anyway
inline constexpr int kPoolForwardThreads = kPoolForwardWarps * kWarpSize;

// x [N,H,W,C], w [3,3,C,K], out.y and out.argmax [N,P/2,Q/2,K]. With a constant shape there is no
// branch between loads, so that their latencies overlap; and three warps fit on a scheduler.
template <typename Shape>
__global__ void __launch_bounds__(kPoolForwardThreads, kIsConstant<Shape> ? 6 : 1)
    conv2d_pool_forward_kernel(DirectConvOutput out, const float* x, const float* w, Shape shape) {
  constexpr bool kInside = kIsConstant<Shape>;
  if constexpr (kInside) static_assert(Shape::c % 4 == 0 && Shape::q % (2 * kWindows) == 0);
  if (!warp_works()) return;
  const int rows = shape.p / 2, cols = shape.q / 2;
  const int across = ceil_div(cols, kWindows), groups = ceil_div(shape.k, kWarpSize);
  int task = blockIdx.x * kPoolForwardWarps + threadIdx.x / kWarpSize;
  const int k = task % groups * kWarpSize;
  const int valid_k = shape.k % kWarpSize == 0 ? kWarpSize : shape.k - k;
  task /= groups;
  const int j = task % across * kWindows;  // the first window
  task /= across;
  const int i = task % rows, n = task / rows;
  if (n >= shape.n) return;

  constexpr int kPatchCols = 2 * kWindows + 2;
  const int top = 2 * i - shape.pad_h, left = 2 * j - shape.pad_w;
  const float* corner = x + ((int64_t{n} * shape.h + top) * shape.w + left) * shape.c;
  WarpFloat sum[2][2 * kWindows] = {};
  for (int c = 0; c < shape.c; c += 4) {
    unrolled<4>([&](auto row) INLINED {
      [[maybe_unused]] float ahead[kPatchCols][4];  // four channels of this row of the patch
      if constexpr (kLoadAhead || !kInside)
        unrolled<kPatchCols>([&](auto col) INLINED {
          const bool inside = kInside || (unsigned(top + row) < unsigned(shape.h) &&
                                          unsigned(left + col) < unsigned(shape.w));
          const float4 v = load4(corner + (row * shape.w + col) * shape.c + c,
                                 inside ? shape.c - c : 0, kInside || shape.c % 4 == 0);
          ahead[col][0] = v.x;
          ahead[col][1] = v.y;
          ahead[col][2] = v.z;
          ahead[col][3] = v.w;
        });
      unrolled<4>([&](auto channel) INLINED {
        WarpFloat filter[2][3];  // tap row `row - a`, if there is one
        unrolled2<2, 3>([&](auto a, auto s) INLINED {
          constexpr int r = row - a;
          if constexpr (r >= 0 && r < 3)
            filter[a][s] = warp_load(w + (int64_t{r * 3 + s} * shape.c + c + channel) * shape.k + k,
                                     kInside || c + channel < shape.c ? valid_k : 0);
        });
        unrolled<kPatchCols>([&](auto col) INLINED {
          float pixel;
          if constexpr (kLoadAhead || !kInside)
            pixel = ahead[col][channel];
          else
            pixel = corner[(row * shape.w + col) * shape.c + c + channel];
          unrolled2<2, 3>([&](auto a, auto s) INLINED {
            constexpr int r = row - a, output = col - s;
            if constexpr (r >= 0 && r < 3 && output >= 0 && output < 2 * kWindows)
              sum[a][output] = warp_fma(pixel, filter[a][s], sum[a][output]);
          });
        });
      });
    });
  }

  const WarpFloat bias = out.bias != nullptr ? warp_load(out.bias + k, valid_k) : WarpFloat{};
  const int64_t at = ((int64_t{n} * rows + i) * cols + j) * shape.k + k;
  unrolled<kWindows>([&](auto g) INLINED {
    if (j + g >= cols) return;
    const WarpFloat window[2][2] = {{sum[0][2 * g], sum[0][2 * g + 1]},
                                    {sum[1][2 * g], sum[1][2 * g + 1]}};
    out.store_window(window, bias, at + g * shape.k, valid_k);
  });
}

void conv2d_pool_forward(float* y, uint8_t* argmax, const float* x, const float* w,
                         const float* bias, bool relu, const ConvShape& shape,
                         cudaStream_t stream) {
  CHECK(conv2d_pool_fits(shape));
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  const DirectConvOutput out{y, argmax, bias, relu};
  if (conv2d_direct_fits(shape)) return conv2d_direct<true>(out, x, w, shape, stream);
  const int64_t tasks = int64_t{shape.n} * (shape.p / 2) * ceil_div(shape.q / 2, kWindows) *
                        ceil_div(shape.k, kWarpSize);
  CHECK(tasks <= INT32_MAX - kPoolForwardWarps);
  const dim3 grid{unsigned(ceil_div(int(tasks), kPoolForwardWarps))}, block{kPoolForwardThreads};
  if (DefaultConv2::is(shape)) {
    const auto kernel = conv2d_pool_forward_kernel<DefaultConv2>;
    return launch(kernel, grid, block, stream, out, x, w, DefaultConv2{shape.n});
  }
  const auto kernel = conv2d_pool_forward_kernel<ConvShape>;
  launch(kernel, grid, block, stream, out, x, w, shape);
}

}  // namespace mnist::MNIST_TARGET
