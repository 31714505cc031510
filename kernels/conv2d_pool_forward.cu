// A 3x3 convolution with stride 1 and the 2x2 max pooling after it in one pass:
//   y[n,i,j,k] = the largest of conv(x)[n, 2i+a, 2j+b, k], a, b in {0,1}; argmax = 2a + b
//
//   the window's        the patch of x that they need, from row 2i-pad_h and column 2j-pad_w
//   outputs (a,b)         . . . .
//     (0,0) (0,1)         . . . .    tap (r,s) of output (a,b) multiplies patch[a+r][b+s]: row 1
//     (1,0) (1,1)         . . . .    of the patch meets tap row 1 for a = 0, tap row 0 for a = 1
//                         . . . .
//
// As a matrix product it is positions x output channels, and its sums never leave the registers:
// lanes are output channels, and a warp sums the four outputs of kWindows = 3 windows. Filter
// values are read as whole lines and serve 12 positions; input values are the same for all lanes
// and serve up to three taps. Filter and input come out of the caches; nothing is shared between
// warps, there is no barrier, and bias, ReLU, maximum and argmax happen in registers.
//
// Default network, second convolution: x [128,12,12,32], w [3,3,32,64], y [128,5,5,64]: 3200
// windows. Grid (534, 2), block 64 = 2 warps. Warp v of block (x, y) makes windows 6x + 3v to 6x +
// 3v + 2, lane l channel 32y + l. In each of eight steps it takes four input channels: 48 vectors
// of 16 bytes (3 patches of 16 pixels), each the same for all lanes, and 36 filter lines of 128
// bytes (9 taps x 4 channels), for 432 multiply-adds.
//
// One-channel input goes to conv2d_direct.cuh.
#include "kernels/common.cuh"
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

inline constexpr int kWindows = 3;           // of a warp: twelve sums a lane
inline constexpr int kPoolForwardWarps = 2;  // small blocks spread evenly, and share nothing anyway
inline constexpr int kPoolForwardThreads = kPoolForwardWarps * kWarpSize;

// x [N,H,W,C], w [3,3,C,K], out.y and out.argmax [N,P/2,Q/2,K]; windows = N * P/2 * Q/2. kEven:
// channels come in fours and no window reaches into padding. Then there is no branch between loads,
// so that their latencies overlap; a bound on the registers leaves room for enough warps to hide
// what remains of them.
template <bool kEven>
__global__ void __launch_bounds__(kPoolForwardThreads, kEven ? 5 : 1)
    conv2d_pool_forward_kernel(DirectConvOutput out, const float* x, const float* w,
                               Divisor windows_per_image, Divisor windows_per_row, int windows,
                               ConvShape shape) {
  if (!warp_works()) return;
  const int warp = threadIdx.x / kWarpSize;
  const int first = (blockIdx.x * kPoolForwardWarps + warp) * kWindows;
  const int k = blockIdx.y * kWarpSize, valid_k = shape.k - k;
  if (first >= windows) return;

  int top[kWindows], left[kWindows];
  const float* corner[kWindows];  // of each patch, channel 0
  unrolled<kWindows>([&](auto g) INLINED {
    const int window = min(first + g, windows - 1);  // after the last one: again, but not stored
    const int n = windows_per_image.quotient(window);
    const int index = window - n * windows_per_image.value;
    const int i = windows_per_row.quotient(index), j = index - i * windows_per_row.value;
    top[g] = 2 * i - shape.pad_h;
    left[g] = 2 * j - shape.pad_w;
    corner[g] = x + ((int64_t{n} * shape.h + top[g]) * shape.w + left[g]) * shape.c;
  });

  const bool aligned = kEven || shape.c % 4 == 0;
  const int64_t tap = int64_t{shape.c} * shape.k;  // from a tap's filter values to the next one's
  WarpFloat sum[kWindows][2][2] = {};
  for (int c = 0; c < shape.c; c += 4) {
    const float* from = w + int64_t{c} * shape.k + k;  // tap (0,0) of this channel; moves on
    float input[kWindows][2][4][4];                    // [2 rows of the patch][column][channel]
    unrolled<4>([&](auto row) INLINED {
      unrolled2<kWindows, 4>([&](auto g, auto col) INLINED {
        const bool inside = kEven || (unsigned(top[g] + row) < unsigned(shape.h) &&
                                      unsigned(left[g] + col) < unsigned(shape.w));
        const float4 v = load4(corner[g] + (row * shape.w + col) * shape.c + c,
                               inside ? shape.c - c : 0, aligned);
        input[g][row % 2][col][0] = v.x;
        input[g][row % 2][col][1] = v.y;
        input[g][row % 2][col][2] = v.z;
        input[g][row % 2][col][3] = v.w;
      });
      if constexpr (row > 0) {  // patch rows r and r + 1 are there: tap row r of a = 0 and a = 1
        constexpr int r = row - 1;
        unrolled<3>([&](auto s) INLINED {
          unrolled<4>([&](auto channel) INLINED {
            const WarpFloat filter =
                warp_load(from + channel * shape.k, c + channel < shape.c ? valid_k : 0);
            unrolled<kWindows>([&](auto g) INLINED {
              unrolled2<2, 2>([&](auto a, auto b) INLINED {
                sum[g][a][b] =
                    warp_fma(input[g][(r + a) % 2][s + b][channel], filter, sum[g][a][b]);
              });
            });
          });
          from += tap;
        });
      }
    });
  }

  const WarpFloat bias = out.bias != nullptr ? warp_load(out.bias + k, valid_k) : WarpFloat{};
  unrolled<kWindows>([&](auto g) INLINED {
    if (first + g >= windows) return;
    out.store_window(sum[g], bias, int64_t{first + g} * shape.k + k, valid_k);
  });
}

void conv2d_pool_forward(float* y, uint8_t* argmax, const float* x, const float* w,
                         const float* bias, bool relu, const ConvShape& shape,
                         cudaStream_t stream) {
  CHECK(conv2d_pool_fits(shape));
  CHECK(y != nullptr && x != nullptr && w != nullptr);
  const DirectConvOutput out{y, argmax, bias, relu};
  if (conv2d_direct_fits(shape)) return conv2d_direct<true>(out, x, w, shape, stream);
  const int per_image = shape.p / 2 * (shape.q / 2), windows = shape.n * per_image;
  const bool padded =
      shape.pad_h > 0 || shape.pad_w > 0 || shape.p + 2 > shape.h || shape.q + 2 > shape.w;
  const dim3 grid(unsigned(ceil_div(windows, kPoolForwardWarps * kWindows)),
                  unsigned(ceil_div(shape.k, kWarpSize)));
  CHECK(grid.y <= 65535);
  const auto kernel = padded || shape.c % 4 != 0 ? conv2d_pool_forward_kernel<false>
                                                 : conv2d_pool_forward_kernel<true>;
  launch(kernel, grid, dim3(kPoolForwardThreads), stream, out, x, w, Divisor(per_image),
         Divisor(shape.q / 2), windows, shape);
}

}  // namespace mnist::MNIST_TARGET
