// Back through a 3x3 convolution and the 2x2 max pooling behind it at once. Of the four positions
// of a pooling window, (a,b) = argmax / 2, argmax % 2 alone has a gradient, d = dy[n,i,j,k]. The
// taps of that output lie in the 4x4 patch of the input under the window, rows 2i-pad_h and on:
//   dw[r,s,c,k]    += d * patch[a+r][b+s][c]
//   dpatch[a+r][b+s][c] += d * w[r,s,c,k]
// A quarter of the work of the dense products, and none where the ReLU left d = 0. Lanes are input
// channels, so that (a,b) is the same for a whole warp: a branch without divergence picks one of
// four pieces of code whose registers are fixed. With few input channels, lanes are output channels
// and pick their pixels out of the patch by selection.
#include "kernels/common.cuh"
#include "kernels/conv.cuh"
#include "kernels/kernels.h"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/sum_rows.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kTaps = 9;

// Calls f(a, b) with the two bits of a code as constants.
template <typename F>
__device__ __forceinline__ void with_place(int code, F&& f) {
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
// block; sum_rows adds these in order and puts them where they belong.
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

// Where a sum of PartialShape goes.
struct PoolFilterOutput {
  float* dw;
  float* dbias;  // may be null
  PartialShape shape;

  __device__ void store(int at, float4 v, int valid) const {
    const float values[4] = {v.x, v.y, v.z, v.w};
    const int channels = shape.k * shape.c;
    for (int i = 0; i < min(valid, 4); ++i) {
      const int tap = (at + i) / channels, rest = (at + i) - tap * channels;
      const int k = rest / shape.c, c = rest - k * shape.c;
      if (tap < kTaps)
        dw[(tap * shape.c + c) * shape.k + k] = values[i];
      else if (dbias != nullptr)
        dbias[rest] = values[i];
    }
  }
};

// Lanes are input channels. A warp keeps the sums of all taps of kOutputsPerWarp output channels,
// and walks over the windows of its images; a window shares half of its patch with the next.
inline constexpr int kFilterWarps = 8, kOutputsPerWarp = 8;

__global__ void __launch_bounds__(kFilterWarps* kWarpSize, 1)
    conv2d_pool_backward_filter_kernel(float* partial, const float* x, const float* dy,
                                       const uint8_t* argmax, ConvShape shape) {
  const int warp = threadIdx.x / kWarpSize;
  const int c = blockIdx.x * kWarpSize, valid_c = shape.c - c;
  const int k = (blockIdx.y * kFilterWarps + warp) * kOutputsPerWarp, valid_k = shape.k - k;
  if (!warp_works() || valid_k <= 0) return;
  const int rows = shape.p / 2, cols = shape.q / 2;
  const bool aligned = shape.k % 4 == 0;

  WarpFloat sum[kTaps][kOutputsPerWarp] = {}, bias = {};
  for (int n = blockIdx.z; n < shape.n; n += gridDim.z) {
    const float* image = x + int64_t{n} * shape.h * shape.w * shape.c + c;
    const auto input = [&](int h, int w) {
      const bool inside = unsigned(h) < unsigned(shape.h) && unsigned(w) < unsigned(shape.w);
      return warp_load(image + (h * shape.w + w) * shape.c, inside ? valid_c : 0);
    };
    for (int i = 0; i < rows; ++i) {
      const int top = 2 * i - shape.pad_h;
      WarpFloat patch[4][4];
      unrolled<4>([&](auto r) INLINED {
        unrolled<2>([&](auto s) INLINED { patch[r][s + 2] = input(top + r, s - shape.pad_w); });
      });
      for (int j = 0; j < cols; ++j) {
        const int right = 2 * j - shape.pad_w + 2;
        unrolled<4>([&](auto r) INLINED {
          unrolled<2>([&](auto s) INLINED {
            patch[r][s] = patch[r][s + 2];
            patch[r][s + 2] = input(top + r, right + s);
          });
        });
        const int64_t at = ((int64_t{n} * rows + i) * cols + j) * shape.k + k;
        if (blockIdx.x == 0) bias = bias + warp_load(dy + at, min(valid_k, kOutputsPerWarp));
        unrolled<kOutputsPerWarp / 4>([&](auto quad) INLINED {
          const int valid = valid_k - quad * 4;
          const float4 d4 = load4(dy + at + quad * 4, valid, aligned);
          const uchar4 code4 = load4(argmax + at + quad * 4, valid, aligned);
          const float d[4] = {d4.x, d4.y, d4.z, d4.w};
          const int code[4] = {code4.x, code4.y, code4.z, code4.w};
          unrolled<4>([&](auto q) INLINED {
            if (d[q] == 0.0f) return;
            with_place(code[q], [&](auto a, auto b) INLINED {
              unrolled<kTaps>([&](auto t) INLINED {
                WarpFloat& s = sum[t][quad * 4 + q];
                s = warp_fma(d[q], patch[t / 3 + a][t % 3 + b], s);
              });
            });
          });
        });
      }
    }
  }

  const PartialShape place{shape.c, shape.k};
  float* out = partial + int64_t{blockIdx.z} * place.size();
  for (int q = 0; q < kOutputsPerWarp && q < valid_k; ++q)
    for (int t = 0; t < kTaps; ++t) warp_store(out + place.dw(t, k + q, c), sum[t][q], valid_c);
  if (blockIdx.x == 0) warp_store(out + place.dbias(k), bias, min(valid_k, kOutputsPerWarp));
}

// Lanes are output channels, for input channel blockIdx.y. The warps of a block share the rows of
// windows and add up their sums in order.
__global__ void __launch_bounds__(kBlockSize, 1)
    conv2d_pool_backward_filter_few_kernel(float* partial, const float* x, const float* dy,
                                           const uint8_t* argmax, ConvShape shape) {
  __shared__ float sums[kBlockSize / kWarpSize][kTaps + 1][kWarpSize];
  const int warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  const int k = blockIdx.x * kWarpSize, c = blockIdx.y, valid = shape.k - k;
  const int rows = shape.p / 2, cols = shape.q / 2;

  if (warp_works()) {
    WarpFloat sum[kTaps] = {}, bias = {};
    for (int n = blockIdx.z; n < shape.n; n += gridDim.z) {
      const float* image = x + int64_t{n} * shape.h * shape.w * shape.c + c;
      const auto pixel = [&](int h, int w) {
        const bool inside = unsigned(h) < unsigned(shape.h) && unsigned(w) < unsigned(shape.w);
        return inside ? image[(h * shape.w + w) * shape.c] : 0.0f;
      };
      for (int i = warp; i < rows; i += warps) {
        const int top = 2 * i - shape.pad_h;
        float patch[4][4];
        unrolled<4>([&](auto r) INLINED {
          unrolled<2>([&](auto s) INLINED { patch[r][s + 2] = pixel(top + r, s - shape.pad_w); });
        });
        for (int j = 0; j < cols; ++j) {
          const int right = 2 * j - shape.pad_w + 2;
          unrolled<4>([&](auto r) INLINED {
            unrolled<2>([&](auto s) INLINED {
              patch[r][s] = patch[r][s + 2];
              patch[r][s + 2] = pixel(top + r, right + s);
            });
          });
          const int64_t at = ((int64_t{n} * rows + i) * cols + j) * shape.k + k;
          const WarpFloat d = warp_load(dy + at, valid);
          const WarpInt code = warp_load(argmax + at, valid);
          const WarpBool is_lower = has_bits(code, 2), is_right = has_bits(code, 1);
          WarpFloat picked[4][3];
          unrolled<12>([&](auto e) INLINED {
            constexpr int r = e / 3, s = e % 3;
            picked[r][s] = warp_select(is_right, patch[r][s + 1], patch[r][s]);
          });
          unrolled<kTaps>([&](auto t) INLINED {
            constexpr int r = t / 3, s = t % 3;
            sum[t] = warp_fma(d, warp_select(is_lower, picked[r + 1][s], picked[r][s]), sum[t]);
          });
          bias = bias + d;
        }
      }
    }
    unrolled<kTaps>([&](auto t) INLINED { warp_store(sums[warp][t], sum[t], kWarpSize); });
    warp_store(sums[warp][kTaps], bias, kWarpSize);
  }
  __syncthreads();  // every warp wrote its sums, all threads read them

  const PartialShape place{shape.c, shape.k};
  float* out = partial + int64_t{blockIdx.z} * place.size();
  for (int e = threadIdx.x; e < (kTaps + 1) * kWarpSize; e += blockDim.x) {
    const int t = e / kWarpSize, lane = e % kWarpSize;
    if (lane >= valid) continue;
    float sum = sums[0][t][lane];
    for (int from = 1; from < warps; ++from) sum += sums[from][t][lane];
    if (t < kTaps)
      out[place.dw(t, k + lane, c)] = sum;
    else if (c == 0)
      out[place.dbias(k + lane)] = sum;
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
           dim3(unsigned(even_warps(shape.p / 2) * kWarpSize)), 0, stream, workspace, x, dy, argmax,
           shape);
  } else {
    const dim3 grid(unsigned(ceil_div(shape.c, kWarpSize)),
                    unsigned(ceil_div(shape.k, kFilterWarps * kOutputsPerWarp)), slices);
    CHECK(grid.y <= 65535);
    launch(conv2d_pool_backward_filter_kernel, grid, dim3(kFilterWarps * kWarpSize), 0, stream,
           workspace, x, dy, argmax, shape);
  }
  const PartialShape partial{shape.c, shape.k};
  sum_rows(PoolFilterOutput{dw, dbias, partial}, workspace, slices, partial.size(), stream);
}

// ---- data --------------------------------------------------------------------------------------
// Lanes are input channels. A warp sums two neighbouring rows of dx, kColumns wide, in registers:
// the windows in whose upper and in whose lower half they lie bring them all they get.
inline constexpr int kColumns = kWarpSums / 2, kStripWindows = kColumns / 2 + 1;
inline constexpr int kFilterDepth = 32;  // output channels of the filter in shared memory at a time

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
  int from[2 * kStripWindows];  // the first channel of the windows that reach the strip; -1: none
  unrolled<2 * kStripWindows>([&](auto e) INLINED {
    constexpr int half = e / kStripWindows, window = e % kStripWindows;
    const int i = row_pair - half, j = strip * (kColumns / 2) - 1 + window;
    const bool exists = unsigned(i) < unsigned(rows) && unsigned(j) < unsigned(cols);
    from[e] = exists ? (i * cols + j) * shape.k : -1;
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
        WarpFloat taps[kTaps];
        unrolled<kTaps>([&](auto t) INLINED {
          taps[t] = warp_load(filter_k + t * (sizeof(filter[0]) / sizeof(float)), kWarpSize);
        });
        float d[2][kStripWindows];
        int code[2][kStripWindows];
        unrolled<2 * kStripWindows>([&](auto e) INLINED {
          constexpr int half = e / kStripWindows, window = e % kStripWindows;
          d[half][window] = from[e] >= 0 ? image_dy[from[e] + k0 + k] : 0.0f;
          code[half][window] = from[e] >= 0 ? image_argmax[from[e] + k0 + k] : 0;
        });
        unrolled<2 * kStripWindows>([&](auto e) INLINED {
          constexpr int half = e / kStripWindows, window = e % kStripWindows;
          if (d[half][window] == 0.0f) return;
          with_place(code[half][window], [&](auto a, auto b) INLINED {
            unrolled<kTaps>([&](auto t) INLINED {
              constexpr int row = t / 3 + a - 2 * half, col = 2 * window - 2 + t % 3 + b;
              if constexpr (row >= 0 && row < 2 && col >= 0 && col < kColumns)
                sum[row][col] = warp_fma(d[half][window], taps[t], sum[row][col]);
            });
          });
        });
      }
    }
    if (k0 + kFilterDepth < shape.k) __syncthreads();  // all have read the filter, others follow
  }

  if (!warp_works()) return;
  unrolled<2 * kColumns>([&](auto e) INLINED {
    constexpr int row = e / kColumns, col = e % kColumns;
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
  const int warps = even_warps(int(tasks));
  const dim3 grid(unsigned(shape.n), unsigned(ceil_div(shape.c, kWarpSize)),
                  unsigned(ceil_div(int(tasks), warps)));
  CHECK(grid.y <= 65535 && grid.z <= 65535);
  launch(conv2d_pool_backward_data_kernel, grid, dim3(unsigned(warps * kWarpSize)), 0, stream, dx,
         dy, argmax, w, gate, strips, shape);
}

}  // namespace mnist::MNIST_TARGET
