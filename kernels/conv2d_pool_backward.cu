// The backward pass of a 3x3 convolution with stride 1 and the 2x2 max pooling after it, at once.
// Of the four positions of a pooling window, only (a,b) = (argmax / 2, argmax % 2) has a gradient,
// d = dy[n,i,j,k]. The nine taps of that position lie in the 4x4 patch of the input under the
// window:
//
//   patch of x from row 2i-pad_h and    the taps rs of position
//   column 2j-pad_w, dpatch of dx         (a,b) = (0,0)     (0,1)          (1,0)          (1,1)
//     . . . .                             00 01 02 .     . 00 01 02     .  .  .  .     .  .  .  .
//     . . . .                             10 11 12 .     . 10 11 12     00 01 02 .     . 00 01 02
//     . . . .                             20 21 22 .     . 20 21 22     10 11 12 .     . 10 11 12
//     . . . .                              .  .  . .     .  .  .  .     20 21 22 .     . 20 21 22
//
//   dw[r,s,c,k]         += d * patch[a+r][b+s][c]
//   dpatch[a+r][b+s][c] += d * w[r,s,c,k]
//
// That is a quarter of the work of the dense products, and none where the ReLU left d = 0. Lanes
// are input channels, so that (a,b) is the same for a whole warp: a branch without divergence picks
// one of four pieces of code whose registers are fixed (dispatch_argmax). With few input channels,
// lanes are output channels and pick their pixels out of the patch by selection.
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/sliding_patch.cuh"
#include "kernels/sum_rows.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kTaps = 9;

// Calls f(a, b) with the two bits of an argmax as constants.
template <typename F>
__device__ __forceinline__ void dispatch_argmax(int code, F&& f) {
  constexpr std::integral_constant<int, 0> zero{};
  constexpr std::integral_constant<int, 1> one{};
  switch (code) {
    case 0:
      return f(zero, zero);
    case 1:
      return f(zero, one);
    case 2:
      return f(one, zero);
    default:
      return f(one, one);
  }
}

// ---- filter ------------------------------------------------------------------------------------
// Blocks take turns on the images and write their sums to `partial`, [9,K,C] and then [K] per
// slice, so that lanes store whole lines; sum_rows adds these in order and puts them where they
// belong.
inline constexpr int kMostSlices = 128;  // of the images
inline constexpr int kFewChannels = 8;

struct PartialShape {
  int c, k;

  __host__ __device__ int dw(int tap, int k_index, int c_index) const {
    return (tap * k + k_index) * c + c_index;
  }
  __host__ __device__ int dbias(int k_index) const { return kTaps * k * c + k_index; }
  __host__ __device__ int size() const { return kTaps * k * c + k; }
};

// Stores the sum of element `at` of PartialShape where it belongs.
struct PoolFilterOutput {
  float* dw;     // [3,3,C,K]
  float* dbias;  // [K], or null
  PartialShape shape;

  __device__ void store(int at, float4 v, int valid) const {
    const float values[4] = {v.x, v.y, v.z, v.w};
    const int channels = shape.k * shape.c;
    for (int i = 0; i < min(valid, 4); ++i) {
      const int tap = (at + i) / channels, channel = (at + i) - tap * channels;
      const int k = channel / shape.c, c = channel - k * shape.c;
      if (tap < kTaps)
        dw[(tap * shape.c + c) * shape.k + k] = values[i];
      else if (dbias != nullptr)
        dbias[channel] = values[i];
    }
  }
};

// Lanes are input channels. A warp keeps the sums of 9 taps x 8 output channels in 72 registers,
// and walks over the windows of its images with the 4x4 patch in 16 (sliding_patch.cuh). Per window
// and output channel it reads one gradient and one argmax, the same for all lanes.
//
// Default network, second convolution: x [128,12,12,32], dy and argmax [128,5,5,64], partial
// [128][9*64*32 + 64] (9.5 MB). Grid (1, 1, 128), block 256 = 8 warps. Block (0, 0, z) walks over
// the 25 windows of image z; its warp v sums output channels 8v to 8v + 7, lane l input channel l.
// No shared memory, no barrier.
inline constexpr int kFilterWarps = 8, kOutputsPerWarp = 8;
inline constexpr int kFilterThreads = kFilterWarps * kWarpSize;

// partial [slices][9*K*C + K], x [N,H,W,C], dy and argmax [N,P/2,Q/2,K]. blockIdx is (32 input
// channels, 64 output channels, slice of the images).
__global__ void __launch_bounds__(kFilterThreads, 1)
    conv2d_pool_backward_filter_kernel(float* partial, const float* x, const float* dy,
                                       const uint8_t* argmax, ConvShape shape) {
  const int warp = threadIdx.x / kWarpSize;
  const int c = blockIdx.x * kWarpSize, valid_c = shape.c - c;
  const int k = (blockIdx.y * kFilterWarps + warp) * kOutputsPerWarp, valid_k = shape.k - k;
  if (!warp_works() || valid_k <= 0) return;
  const int rows = shape.p / 2, cols = shape.q / 2;
  const bool aligned = shape.k % 4 == 0;

  WarpFloat sum[3][3][kOutputsPerWarp] = {}, bias = {};
  for (int n = blockIdx.z; n < shape.n; n += gridDim.z) {
    const float* image = x + int64_t{n} * shape.h * shape.w * shape.c + c;
    const auto input = [&](int h, int w) {
      const bool inside = unsigned(h) < unsigned(shape.h) && unsigned(w) < unsigned(shape.w);
      return warp_load(image + (h * shape.w + w) * shape.c, inside ? valid_c : 0);
    };
    for (int i = 0; i < rows; ++i) {
      const int top = 2 * i - shape.pad_h;
      SlidingPatch<WarpFloat, 4, 4> patch;
      patch.begin(top, -shape.pad_w, input);
      for (int j = 0; j < cols; ++j) {
        patch.move_to(top, 2 * j - shape.pad_w, input);
        const int64_t at = ((int64_t{n} * rows + i) * cols + j) * shape.k + k;
        if (blockIdx.x == 0) bias = bias + warp_load(dy + at, min(valid_k, kOutputsPerWarp));
        unrolled<kOutputsPerWarp / 4>([&](auto quad) INLINED {
          const int valid = valid_k - quad * 4;
          const float4 d4 = load4(dy + at + quad * 4, valid, aligned);
          const uchar4 code4 = load4(argmax + at + quad * 4, valid, aligned);
          const float d[4] = {d4.x, d4.y, d4.z, d4.w};
          const int code[4] = {code4.x, code4.y, code4.z, code4.w};
          unrolled<4>([&](auto q) INLINED {
            if (d[q] == 0.0f) return;  // the ReLU's zeros: nothing to add
            dispatch_argmax(code[q], [&](auto a, auto b) INLINED {
              unrolled2<3, 3>([&](auto r, auto s) INLINED {
                WarpFloat& tap = sum[r][s][quad * 4 + q];
                tap = warp_fma(d[q], patch.at[a + r][b + s], tap);
              });
            });
          });
        });
      }
    }
  }

  const PartialShape sums{shape.c, shape.k};
  float* out = partial + int64_t{blockIdx.z} * sums.size();
  for (int q = 0; q < kOutputsPerWarp && q < valid_k; ++q)
    for (int t = 0; t < kTaps; ++t)
      warp_store(out + sums.dw(t, k + q, c), sum[t / 3][t % 3][q], valid_c);
  if (blockIdx.x == 0) warp_store(out + sums.dbias(k), bias, min(valid_k, kOutputsPerWarp));
}

// The same for few input channels. Lanes are output channels, for input channel blockIdx.y. The
// warps of a block take turns on the rows of windows; their sums meet in shared memory and are
// added in order. A lane's maximum differs from its neighbour's, so each picks the 3x3 pixels under
// its own out of the 4x4 patch: first columns (12 selections), then rows (9).
//
// Default network, first convolution: x [128,28,28,1], dy and argmax [128,12,12,32], partial
// [128][9*32 + 32] (0.16 MB). Grid (1, 1, 128), block 192 = 6 warps. Block (0, 0, z) makes image z;
// its warp v walks along rows v and v + 6 of windows, lane l sums output channel l.
//
// partial [slices][9*K*C + K], x [N,H,W,C], dy and argmax [N,P/2,Q/2,K]. blockIdx is (32 output
// channels, input channel, slice of the images).
__global__ void __launch_bounds__(kBlockSize, 1)
    conv2d_pool_backward_filter_few_kernel(float* partial, const float* x, const float* dy,
                                           const uint8_t* argmax, ConvShape shape) {
  __shared__ float sums[kBlockSize / kWarpSize][kTaps + 1][kWarpSize];
  const int warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  const int k = blockIdx.x * kWarpSize, c = blockIdx.y, valid = shape.k - k;
  const int rows = shape.p / 2, cols = shape.q / 2;

  if (warp_works()) {
    WarpFloat sum[3][3] = {}, bias = {};
    for (int n = blockIdx.z; n < shape.n; n += gridDim.z) {
      const float* image = x + int64_t{n} * shape.h * shape.w * shape.c + c;
      const auto pixel = [&](int h, int w) {
        const bool inside = unsigned(h) < unsigned(shape.h) && unsigned(w) < unsigned(shape.w);
        return inside ? image[(h * shape.w + w) * shape.c] : 0.0f;
      };
      for (int i = warp; i < rows; i += warps) {
        const int top = 2 * i - shape.pad_h;
        SlidingPatch<float, 4, 4> patch;
        patch.begin(top, -shape.pad_w, pixel);
        for (int j = 0; j < cols; ++j) {
          patch.move_to(top, 2 * j - shape.pad_w, pixel);
          const int64_t at = ((int64_t{n} * rows + i) * cols + j) * shape.k + k;
          const WarpFloat d = warp_load(dy + at, valid);
          const WarpInt code = warp_load(argmax + at, valid);
          const WarpBool is_lower = has_bits(code, 2), is_right = has_bits(code, 1);
          WarpFloat picked[4][3];
          unrolled2<4, 3>([&](auto r, auto s) INLINED {
            picked[r][s] = warp_select(is_right, patch.at[r][s + 1], patch.at[r][s]);
          });
          unrolled2<3, 3>([&](auto r, auto s) INLINED {
            const WarpFloat input = warp_select(is_lower, picked[r + 1][s], picked[r][s]);
            sum[r][s] = warp_fma(d, input, sum[r][s]);
          });
          bias = bias + d;
        }
      }
    }
    unrolled2<3, 3>([&](auto r, auto s) INLINED {
      constexpr int tap = r * 3 + s;
      warp_store(sums[warp][tap], sum[r][s], kWarpSize);
    });
    warp_store(sums[warp][kTaps], bias, kWarpSize);
  }
  __syncthreads();  // every warp wrote its sums, all threads read them

  const PartialShape partial_shape{shape.c, shape.k};
  float* out = partial + int64_t{blockIdx.z} * partial_shape.size();
  for (int e = threadIdx.x; e < (kTaps + 1) * kWarpSize; e += blockDim.x) {
    const int t = e / kWarpSize, lane = e % kWarpSize;
    if (lane >= valid) continue;
    float sum = sums[0][t][lane];
    for (int from = 1; from < warps; ++from) sum += sums[from][t][lane];
    if (t < kTaps)
      out[partial_shape.dw(t, k + lane, c)] = sum;
    else if (c == 0)
      out[partial_shape.dbias(k + lane)] = sum;
  }
}

size_t conv2d_pool_backward_filter_workspace(const ConvShape& shape) {
  CHECK(conv2d_pool_fits(shape));
  return size_t(min(shape.n, kMostSlices)) * size_t(PartialShape{shape.c, shape.k}.size());
}

void conv2d_pool_backward_filter(float* dw, float* dbias, float* workspace, const float* x,
                                 const float* dy, const uint8_t* argmax, const ConvShape& shape,
                                 cudaStream_t stream) {
  CHECK(conv2d_pool_fits(shape));
  CHECK(dw != nullptr && workspace != nullptr && x != nullptr && dy != nullptr);
  CHECK(argmax != nullptr);
  const unsigned slices = unsigned(min(shape.n, kMostSlices));
  if (shape.c < kFewChannels) {
    const dim3 grid(unsigned(ceil_div(shape.k, kWarpSize)), unsigned(shape.c), slices);
    launch(conv2d_pool_backward_filter_few_kernel, grid,
           dim3(unsigned(balanced_warps(shape.p / 2) * kWarpSize)), stream, workspace, x, dy,
           argmax, shape);
  } else {
    const dim3 grid(unsigned(ceil_div(shape.c, kWarpSize)),
                    unsigned(ceil_div(shape.k, kFilterWarps * kOutputsPerWarp)), slices);
    CHECK(grid.y <= 65535);
    launch(conv2d_pool_backward_filter_kernel, grid, dim3(kFilterThreads), stream, workspace, x, dy,
           argmax, shape);
  }
  const PartialShape partial{shape.c, shape.k};
  sum_rows(PoolFilterOutput{dw, dbias, partial}, workspace, slices, partial.size(), stream);
}

// ---- data --------------------------------------------------------------------------------------
// Lanes are input channels. A warp sums a strip of dx, two rows and kColumns columns, in registers.
// Two rows of windows reach it: row pair t, that is rows 2t and 2t+1 of the padded input, is the
// upper half of the patches of window row i = t (half 0) and the lower half of those of i = t-1
// (half 1). Across, with kColumns = 6, kStripWindows = 4 windows of each row reach it:
//
//   column of the strip   -2 -1  0  1  2  3  4  5  6  7
//   strip                        #  #  #  #  #  #
//   patch of window 0      0  1  2  3
//              window 1          0  1  2  3
//              window 2                0  1  2  3
//              window 3                      0  1  2  3
//
// So tap (r,s) of a window's position (a,b) adds to row a + r - 2 * half, column b + s - 2 + 2 *
// window of the strip, if these are inside. Per output channel a warp reads 8 gradients and
// argmaxes, the same for all lanes, and 9 filter values, and skips the windows whose gradient the
// ReLU left zero. The filter is in shared memory, kFilterDepth output channels at a time (38 KB),
// transposed by the store so that lanes read neighbours. Few registers are used, so that, on
// sm_80 to sm_90, a block of conv2d_pool_backward_filter fits beside two of these on a
// multiprocessor.
//
// Default network: dx and gate [128,12,12,32], dy and argmax [128,5,5,64], w [3,3,32,64]: six row
// pairs of two strips, two rounds of 32 output channels. Grid (128, 1, 2), block 192 = 6 warps.
// Warp v of block (n, 0, z) makes strip (6z + v) % 2 of row pair (6z + v) / 2 of image n, lane l
// input channel l. (The cpu target keeps 24 sums: one strip of 12 columns, grid (128, 1, 1).)
inline constexpr int kColumns = kWarpSums / 2, kStripWindows = kColumns / 2 + 1;
inline constexpr int kFilterDepth = 32;  // output channels of the filter in shared memory at a time

// dx, gate [N,H,W,C], dy and argmax [N,P/2,Q/2,K], w [3,3,C,K]; strips per row pair. blockIdx is
// (image, 32 input channels, group of strips).
__global__ void __launch_bounds__(kBlockSize, 1)
    conv2d_pool_backward_data_kernel(float* dx, const float* dy, const uint8_t* argmax,
                                     const float* w, const float* gate, int strips,
                                     ConvShape shape) {
  // One float more than lanes: the transposing stores of a warp hit different banks.
  __shared__ float filter[kTaps][kFilterDepth][kWarpSize + 1];
  const int warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  const int n = blockIdx.x, c = blockIdx.y * kWarpSize, valid_c = shape.c - c;
  const int task = blockIdx.z * warps + warp, row_pair = task / strips, strip = task % strips;
  const int rows = shape.p / 2, cols = shape.q / 2;
  const bool aligned = shape.k % 4 == 0;

  const float* image_dy = dy + int64_t{n} * rows * cols * shape.k;
  const uint8_t* image_argmax = argmax + int64_t{n} * rows * cols * shape.k;
  int from[2][kStripWindows];  // the first channel of the windows that reach the strip; -1: none
  unrolled2<2, kStripWindows>([&](auto half, auto window) INLINED {
    const int i = row_pair - half, j = strip * (kColumns / 2) - 1 + window;
    const bool exists = unsigned(i) < unsigned(rows) && unsigned(j) < unsigned(cols);
    from[half][window] = exists ? (i * cols + j) * shape.k : -1;
  });

  WarpFloat sum[2][kColumns] = {};
  for (int k0 = 0; k0 < shape.k; k0 += kFilterDepth) {
    // Eight threads bring 32 output channels of one tap and input channel.
    constexpr int kAcross = kFilterDepth / 4;
    for (int e = threadIdx.x; e < kTaps * kWarpSize * kAcross; e += blockDim.x) {
      const int k = e % kAcross * 4, c_index = e / kAcross % kWarpSize, t = e / kAcross / kWarpSize;
      const int valid = c_index < valid_c ? shape.k - k0 - k : 0;
      const float4 v =
          load4(w + (int64_t{t} * shape.c + c + c_index) * shape.k + k0 + k, valid, aligned);
      filter[t][k][c_index] = v.x;
      filter[t][k + 1][c_index] = v.y;
      filter[t][k + 2][c_index] = v.z;
      filter[t][k + 3][c_index] = v.w;
    }
    __syncthreads();  // all threads wrote the filter, all warps read it
    if (warp_works()) {
      const int depth = min(kFilterDepth, shape.k - k0);
      for (int k = 0; k < depth; ++k) {
        const float* filter_k = filter[0][k];
        WarpFloat taps[3][3];
        unrolled2<3, 3>([&](auto r, auto s) INLINED {
          constexpr int tap = r * 3 + s;
          taps[r][s] = warp_load(filter_k + tap * sizeof(filter[0]) / sizeof(float), kWarpSize);
        });
        float d[2][kStripWindows];
        int code[2][kStripWindows];
        unrolled2<2, kStripWindows>([&](auto half, auto window) INLINED {
          const int at = from[half][window];
          d[half][window] = at >= 0 ? image_dy[at + k0 + k] : 0.0f;
          code[half][window] = at >= 0 ? image_argmax[at + k0 + k] : 0;
        });
        unrolled2<2, kStripWindows>([&](auto half, auto window) INLINED {
          if (d[half][window] == 0.0f) return;
          dispatch_argmax(code[half][window], [&](auto a, auto b) INLINED {
            unrolled2<3, 3>([&](auto r, auto s) INLINED {
              constexpr int row = r + a - 2 * half, col = 2 * window - 2 + s + b;
              if constexpr (row >= 0 && row < 2 && col >= 0 && col < kColumns)
                sum[row][col] = warp_fma(d[half][window], taps[r][s], sum[row][col]);
            });
          });
        });
      }
    }
    if (k0 + kFilterDepth < shape.k) __syncthreads();  // all have read the filter, the next follows
  }

  if (!warp_works()) return;
  unrolled2<2, kColumns>([&](auto row, auto col) INLINED {
    const int h = 2 * row_pair + row - shape.pad_h, w_index = strip * kColumns + col - shape.pad_w;
    if (unsigned(h) >= unsigned(shape.h) || unsigned(w_index) >= unsigned(shape.w)) return;
    const int64_t at = ((int64_t{n} * shape.h + h) * shape.w + w_index) * shape.c + c;
    WarpFloat v = sum[row][col];
    if (gate != nullptr)
      v = warp_select(warp_load(gate + at, valid_c) > WarpFloat{}, v, WarpFloat{});
    warp_store(dx + at, v, valid_c);
  });
}

void conv2d_pool_backward_data(float* dx, const float* dy, const uint8_t* argmax, const float* w,
                               const float* gate, const ConvShape& shape, cudaStream_t stream) {
  CHECK(conv2d_pool_fits(shape));
  CHECK(dx != nullptr && dy != nullptr && argmax != nullptr && w != nullptr);
  const int strips = ceil_div(shape.w + shape.pad_w, kColumns);
  const int64_t tasks = int64_t{ceil_div(shape.h + shape.pad_h, 2)} * strips;
  CHECK(tasks <= INT32_MAX - kBlockSize);
  const int warps = balanced_warps(int(tasks));
  const dim3 grid(unsigned(shape.n), unsigned(ceil_div(shape.c, kWarpSize)),
                  unsigned(ceil_div(int(tasks), warps)));
  CHECK(grid.y <= 65535 && grid.z <= 65535);
  launch(conv2d_pool_backward_data_kernel, grid, dim3(unsigned(warps * kWarpSize)), stream, dx, dy,
         argmax, w, gate, strips, shape);
}

}  // namespace mnist::MNIST_TARGET
