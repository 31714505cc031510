// The backward pass of a 3x3 convolution with stride 1 and the 2x2 max pooling after it, at once.
// Of the four positions of a pooling window, only the winner (a,b) = (argmax / 2, argmax % 2) has a
// gradient, d = dy[n,i,j,k]. The nine taps of that position lie in the 4x4 patch of the input under
// the window:
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
// are input channels, so that (a,b) is the same for a whole warp. No branch depends on it: for the
// filter it is an offset into the input, in shared memory; for the data the winners are sorted by
// it. A warp walks over the winners that it has with the bits of a ballot. With few input channels,
// lanes are output channels, each with an offset of its own.
//
// The input is cut into tiles of 5x5 windows, 12x12 pixels: all that the second convolution of the
// default network has. With few input channels they are 12x12 windows, 26x26 pixels.
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/sum_rows.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kTaps = 9;
inline constexpr int kTileWindows = 5, kTileSide = 2 * kTileWindows + 2;
inline constexpr int kTileVectors = kTileSide * kTileSide * kWarpSize / 4;  // of 32 channels

// The winners of 32 windows or of 32 output channels.
struct Winners {
  WarpArray<float> d;
  WarpArray<int> where;  // the position that won: its argmax, or its offset in the tile
};

// ---- filter ------------------------------------------------------------------------------------
// Blocks take turns on the images and write their sums to `partial`, one slice each; sum_rows adds
// these in order and puts them where they belong.
inline constexpr int kMostSlices = 128;  // of the images
inline constexpr int kFewChannels = 8;

// A slice: [lanes/32][others][9 taps][32 lanes], then dbias [K]. Lanes are input channels and
// others are output channels; with few input channels, it is the other way round.
struct PartialShape {
  int c, k;

  __host__ __device__ bool few() const { return c < kFewChannels; }
  __host__ __device__ int lanes() const { return few() ? k : c; }
  __host__ __device__ int others() const { return few() ? c : k; }
  // Tap 0 of 32 lanes, of which the first is a multiple of 32; the next tap is 32 further on.
  __host__ __device__ int dw(int first_lane, int other) const {
    return (first_lane / kWarpSize * others() + other) * kTaps * kWarpSize;
  }
  __host__ __device__ int dbias() const { return ceil_div(lanes(), kWarpSize) * dw(0, others()); }
  __host__ __device__ int size() const { return dbias() + k; }
};

// Stores the sums of the elements from `at` on, a multiple of four, where they belong.
struct PoolFilterOutput {
  float* dw;     // [3,3,C,K]
  float* dbias;  // [K], or null
  PartialShape shape;

  __device__ void store(int at, float4 v, int valid) const {
    const float values[4] = {v.x, v.y, v.z, v.w};
    const int k0 = at - shape.dbias();
    if (k0 >= 0) {
      for (int i = 0; i < min(valid, 4); ++i)
        if (dbias != nullptr) dbias[k0 + i] = values[i];
      return;
    }
    const int row = at / (kTaps * kWarpSize), tap = at / kWarpSize % kTaps;
    const int other = row % shape.others();
    const int lane = row / shape.others() * kWarpSize + at % kWarpSize;
    for (int i = 0; i < min(shape.lanes() - lane, 4); ++i) {
      const int c = shape.few() ? other : lane + i, k = shape.few() ? lane + i : other;
      dw[(tap * shape.c + c) * shape.k + k] = values[i];
    }
  }
};

// A block brings a tile of x to shared memory. Then each warp takes a few output channels, one
// after the other: lane w holds the winner of window w of the tile, and for those whose d is not
// zero, the last first, the nine inputs under it are read at its offset. The sums of a tile are
// added to those of the tiles before. Registers are bounded so that a block fits a multiprocessor
// beside one of conv2d_pool_backward_data.
//
// Default network, second convolution: x [128,12,12,32], dy and argmax [128,5,5,64], partial
// [128][64*9*32 + 64] (9.5 MB). Grid (1, 1, 128), block 512 = 16 warps. Block (0, 0, z) makes image
// z, one tile; its warp v sums output channels 4v to 4v + 3, lane l input channel l.
inline constexpr int kFilterOutputs = 64;  // output channels of a block
inline constexpr int kFilterWarps = kManyWarps ? 16 : 1;
inline constexpr int kOutputsPerWarp = kFilterOutputs / kFilterWarps;
inline constexpr int kFilterThreads = kFilterWarps * kWarpSize;

// partial [slices][PartialShape], x [N,H,W,C], dy and argmax [N,P/2,Q/2,K]. blockIdx is (32 input
// channels, 64 output channels, slice of the images). kWhole: no such group is cut short.
template <bool kWhole>
__global__ void __maxnreg__(56)
    conv2d_pool_backward_filter_kernel(float* partial, const float* x, const float* dy,
                                       const uint8_t* argmax, ConvShape shape) {
  __shared__ __align__(16) float tile[kTileSide][kTileSide][kWarpSize];
  const int warp = threadIdx.x / kWarpSize;
  const int c = blockIdx.x * kWarpSize, valid_c = kWhole ? kWarpSize : shape.c - c;
  const int first_k = (blockIdx.y * kFilterWarps + warp) * kOutputsPerWarp;
  const int end_k = kWhole ? first_k + kOutputsPerWarp : min(first_k + kOutputsPerWarp, shape.k);
  const int rows = shape.p / 2, cols = shape.q / 2;
  const bool aligned = kWhole || shape.c % 4 == 0;

  const PartialShape sums{shape.c, shape.k};
  float* out = partial + int64_t{blockIdx.z} * sums.size();
  bool first = true;
  for (int n = blockIdx.z; n < shape.n; n += gridDim.z)
    for (int top = 0; top < rows; top += kTileWindows)
      for (int left = 0; left < cols; left += kTileWindows) {
        const int64_t corner = ((int64_t{n} * rows + top) * cols + left) * shape.k;
        // Where each window's output channel 0 is, or -1; and its position (0,0) in the tile.
        WarpArray<int> source, place;
        warp_for_each([&](int window) INLINED {
          const int i = window / kTileWindows, j = window % kTileWindows;
          const bool exists = i < kTileWindows && top + i < rows && left + j < cols;
          source.own(window) = exists ? (i * cols + j) * shape.k : -1;
          place.own(window) = (2 * i * kTileSide + 2 * j) * kWarpSize;
        });
        Winners next;  // loaded one output channel ahead; single words, a line for each window
        const auto fetch = [&](int k) INLINED {
          warp_for_each([&](int window) INLINED {
            const bool exists = source.own(window) >= 0 && k < shape.k;
            const int64_t at = corner + source.own(window) + k;
            const int code = exists ? argmax[at] : 0;
            next.d.own(window) = exists ? dy[at] : 0.0f;
            next.where.own(window) =
                place.own(window) + (code / 2 * kTileSide + code % 2) * kWarpSize;
          });
        };
        if (warp_works()) fetch(first_k);

        constexpr int kAcross = kWarpSize / 4, kRounds = ceil_div(kTileVectors, kFilterThreads);
        const float* image = x + int64_t{n} * shape.h * shape.w * shape.c + c;
        float4 vector[kRounds];
        unrolled<kRounds>([&](auto i) INLINED {
          const int e = threadIdx.x + i * kFilterThreads, channel = e % kAcross * 4;
          const int h = 2 * top + e / kAcross / kTileSide - shape.pad_h;
          const int w = 2 * left + e / kAcross % kTileSide - shape.pad_w;
          const bool inside = e < kTileVectors && unsigned(h) < unsigned(shape.h) &&
                              unsigned(w) < unsigned(shape.w);
          vector[i] = load4(image + (h * shape.w + w) * shape.c + channel,
                            inside ? valid_c - channel : 0, aligned);
        });
        unrolled<kRounds>([&](auto i) INLINED {
          const int e = threadIdx.x + i * kFilterThreads;
          if (e < kTileVectors) reinterpret_cast<float4*>(tile)[e] = vector[i];
        });
        __syncthreads();  // all threads wrote the tile, all warps read it
        if (warp_works())
#pragma unroll 1
          for (int k = first_k; k < end_k; ++k) {
            const Winners winners = next;
            fetch(k + 1);
            float* dw = out + sums.dw(c, k);
            float* dbias = out + sums.dbias() + k;
            WarpFloat sum[3][3] = {}, bias = {};  // of d, in lane 0
            const unsigned some =
                warp_where([&](int i) INLINED { return winners.d.own(i) != 0.0f; });
            for_each_bit(some, [&](int i) INLINED {
              const float d = winners.d.at(i);
              const float* input = tile[0][0] + winners.where.at(i);
              unrolled2<3, 3>([&](auto r, auto s) INLINED {
                const WarpFloat v = warp_load(input + (r * kTileSide + s) * kWarpSize, kWarpSize);
                sum[r][s] = warp_fma(d, v, sum[r][s]);
              });
              bias = bias + WarpFloat{d};
            });
            unrolled2<3, 3>([&](auto r, auto s) INLINED {
              float* at = dw + (r * 3 + s) * kWarpSize;
              if (!first) sum[r][s] = warp_load(at, kWarpSize) + sum[r][s];
              warp_store(at, sum[r][s], kWarpSize);
            });
            if (blockIdx.x == 0) {
              if (!first) bias = warp_load(dbias, 1) + bias;
              warp_store(dbias, bias, 1);
            }
          }
        __syncthreads();  // all have read the tile, the next follows
        first = false;
      }
}

// The same for few input channels. Lanes are output channels, for input channel blockIdx.y. A block
// takes a tile of up to 12 rows of 12 windows. A warp takes a row, whose gradients and argmaxes it
// loads before the block brings the input; each lane then reads the nine pixels under its own
// winner (warp_pick). Each row of a tile has its own sums, in shared memory; in the end they are
// added in order.
//
// Default network, first convolution: x [128,28,28,1], dy and argmax [128,12,12,32], partial
// [128][9*32 + 32] (0.16 MB). Grid (1, 1, 128), block 384 = 12 warps. Block (0, 0, z) makes image
// z, one tile; its warp v takes row v of windows, lane l output channel l.
inline constexpr int kFewRows = 12, kFewCols = 12;
// Two columns more than the windows need: the four positions of a window lie in four banks.
inline constexpr int kFewPitch = 2 * kFewCols + 4;
static_assert(kFewPitch % 32 > 1 && kFewPitch % 32 < 31);

// partial [slices][PartialShape], x [N,H,W,C], dy and argmax [N,P/2,Q/2,K]; tile_rows, at most
// kFewRows. blockIdx is (32 output channels, input channel, slice of the images).
__global__ void __launch_bounds__(kFewRows* kWarpSize, 2)
    conv2d_pool_backward_filter_few_kernel(float* partial, const float* x, const float* dy,
                                           const uint8_t* argmax, int tile_rows, ConvShape shape) {
  __shared__ float tile[2 * kFewRows + 2][kFewPitch];
  __shared__ float sums[kFewRows][kTaps + 1][kWarpSize];
  const int warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  const int k = blockIdx.x * kWarpSize, c = blockIdx.y, valid = shape.k - k;
  const int rows = shape.p / 2, cols = shape.q / 2;

  bool first = true;
  for (int n = blockIdx.z; n < shape.n; n += gridDim.z)
    for (int top = 0; top < rows; top += tile_rows)
      for (int left = 0; left < cols; left += kFewCols) {
        WarpFloat d[kFewCols] = {};
        WarpInt code[kFewCols] = {};
        const auto fetch = [&](int i) INLINED {
          const int64_t row = ((int64_t{n} * rows + top + i) * cols + left) * shape.k + k;
          unrolled<kFewCols>([&](auto j) INLINED {
            const int there = top + i < rows && left + j < cols ? valid : 0;
            d[j] = warp_load(dy + row + j * shape.k, there);
            code[j] = warp_load(argmax + row + j * shape.k, there);
          });
        };
        if (warp_works()) fetch(warp);
        const float* image = x + int64_t{n} * shape.h * shape.w * shape.c + c;
        for (int e = threadIdx.x; e < (2 * tile_rows + 2) * kFewPitch; e += blockDim.x) {
          const int h = 2 * top + e / kFewPitch - shape.pad_h;
          const int w = 2 * left + e % kFewPitch - shape.pad_w;
          const bool inside = unsigned(h) < unsigned(shape.h) && unsigned(w) < unsigned(shape.w);
          tile[e / kFewPitch][e % kFewPitch] = inside ? image[(h * shape.w + w) * shape.c] : 0.0f;
        }
        __syncthreads();  // all threads wrote the tile, all warps read it
        if (warp_works())
          for (int i = warp; i < tile_rows; i += warps) {
            if (i != warp) fetch(i);
            WarpFloat sum[kTaps + 1] = {};
            const float(*input)[kFewPitch] = &tile[2 * i];
            unrolled<kFewCols>([&](auto j) INLINED {
              unrolled2<3, 3>([&](auto r, auto s) INLINED {
                const WarpFloat v = warp_pick<kFewPitch>(&input[r][2 * j + s], code[j]);
                sum[r * 3 + s] = warp_fma(d[j], v, sum[r * 3 + s]);
              });
              sum[kTaps] = sum[kTaps] + d[j];
            });
            unrolled<kTaps + 1>([&](auto t) INLINED {
              float* to = sums[i][t];
              warp_store(to, first ? sum[t] : warp_load(to, kWarpSize) + sum[t], kWarpSize);
            });
          }
        __syncthreads();  // all have read the tile and written their sums
        first = false;
      }

  const PartialShape slice{shape.c, shape.k};
  float* out = partial + int64_t{blockIdx.z} * slice.size();
  for (int e = threadIdx.x; e < (kTaps + 1) * kWarpSize; e += blockDim.x) {
    const int t = e / kWarpSize, lane = e % kWarpSize;
    float sum = sums[0][t][lane];
    for (int i = 1; i < tile_rows; ++i) sum += sums[i][t][lane];
    if (t < kTaps)
      out[slice.dw(k, c) + e] = sum;
    else if (c == 0 && lane < valid)
      out[slice.dbias() + k + lane] = sum;
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
  const PartialShape partial{shape.c, shape.k};
  if (partial.few()) {
    const dim3 grid(unsigned(ceil_div(shape.k, kWarpSize)), unsigned(shape.c), slices);
    const int rows = shape.p / 2, tile_rows = ceil_div(rows, ceil_div(rows, kFewRows));
    launch(conv2d_pool_backward_filter_few_kernel, grid,
           dim3(unsigned((kManyWarps ? tile_rows : 1) * kWarpSize)), stream, workspace, x, dy,
           argmax, tile_rows, shape);
  } else {
    const dim3 grid(unsigned(ceil_div(shape.c, kWarpSize)),
                    unsigned(ceil_div(shape.k, kFilterOutputs)), slices);
    CHECK(grid.y <= 65535);
    const bool whole = shape.c % kWarpSize == 0 && shape.k % kFilterOutputs == 0;
    const auto kernel = whole ? conv2d_pool_backward_filter_kernel<true>
                              : conv2d_pool_backward_filter_kernel<false>;
    launch(kernel, grid, dim3(kFilterThreads), stream, workspace, x, dy, argmax, shape);
  }
  sum_rows(PoolFilterOutput{dw, dbias, partial}, workspace, slices, partial.size(), stream);
}

// ---- data --------------------------------------------------------------------------------------
// A block makes a tile of dx. A warp keeps dpatch, 16 sums, of two windows; lane k holds output
// channel k's winner. For each of the four positions in turn, the warp walks over the channels that
// have their winner there, the last first, and reads nine filter values of each. These are in
// shared memory, kFilterDepth output channels at a time, transposed by the store so that lanes read
// neighbours. In the end the patches, which overlap, are added up in four rounds: windows of even
// row and column, even row and odd column, and so on; the windows of a round have no pixel in
// common.
//
// A tile is 12x12 pixels of the padded input. If the input has more than that, or more than 5x5
// windows, the two rows and columns along a tile's sides lack some of their windows, and the tiles
// overlap so that each pixel is complete in one of them.
//
// Default network: dx and gate [128,12,12,32], dy and argmax [128,5,5,64], w [3,3,32,64]: one tile,
// two times 32 output channels. Grid (128, 1, 1), block 416 = 13 warps. Warp v of block (n, 0, 0)
// makes windows v and v + 13 of image n, lane l input channel l.
inline constexpr int kDataWindows = kTileWindows * kTileWindows;
inline constexpr int kWindowsPerWarp = kManyWarps ? 2 : kDataWindows;
inline constexpr int kDataWarps = ceil_div(kDataWindows, kWindowsPerWarp);
inline constexpr int kDataThreads = kDataWarps * kWarpSize;
inline constexpr int kFilterDepth = 32;  // output channels of the filter in shared memory at a time

// The tiles along one side of the padded input.
struct PoolTiles {
  PoolTiles(int windows, int pixels)
      : single(windows <= kTileWindows && pixels <= kTileSide),
        count(single ? 1 : ceil_div(pixels, kTileSide - 4)) {}

  __device__ int first_window(int tile) const { return single ? 0 : tile * (kTileWindows - 1) - 1; }
  __device__ bool is_complete(int pixel) const {
    return single || (pixel >= 2 && pixel < kTileSide - 2);
  }

  bool single;
  int count;
};

// dx, gate [N,H,W,C], dy and argmax [N,P/2,Q/2,K], w [3,3,C,K]. blockIdx is (image, 32 input
// channels, tile). kWhole: channels come in groups of 32.
template <bool kWhole>
__global__ void __launch_bounds__(kDataThreads, kWhole ? 2 : 1)
    conv2d_pool_backward_data_kernel(float* dx, const float* dy, const uint8_t* argmax,
                                     const float* w, const float* gate, PoolTiles tiles_h,
                                     PoolTiles tiles_w, ConvShape shape) {
  // One float more than lanes: the transposing stores of a warp hit different banks.
  constexpr int kPitch = kWarpSize + 1;
  __shared__ __align__(16) float shared[kTaps * kFilterDepth * kPitch];
  const auto filter = reinterpret_cast<float(*)[kFilterDepth][kPitch]>(shared);
  const auto tile = reinterpret_cast<float(*)[kTileSide][kWarpSize]>(shared);  // after the filter
  const int warp = threadIdx.x / kWarpSize;
  const int n = blockIdx.x, c = blockIdx.y * kWarpSize;
  const int valid_c = kWhole ? kWarpSize : shape.c - c;
  const int top = tiles_h.first_window(blockIdx.z / tiles_w.count);
  const int left = tiles_w.first_window(blockIdx.z % tiles_w.count);
  const int rows = shape.p / 2, cols = shape.q / 2;
  const bool aligned_c = kWhole || shape.c % 4 == 0, aligned_k = kWhole || shape.k % 4 == 0;

  WarpFloat patch[kWindowsPerWarp][4][4];
  if (warp_works())
#pragma unroll
    for (int g = 0; g < kWindowsPerWarp; ++g)
      unrolled2<4, 4>([&](auto r, auto s) INLINED { patch[g][r][s] = WarpFloat{}; });
  for (int k0 = 0; k0 < shape.k; k0 += kFilterDepth) {
    const int depth = kWhole ? kFilterDepth : min(kFilterDepth, shape.k - k0);
    Winners winners[kWindowsPerWarp];
    if (warp_works())
#pragma unroll
      for (int g = 0; g < kWindowsPerWarp; ++g) {
        const int window = warp + g * kDataWarps;
        const int i = top + window / kTileWindows, j = left + window % kTileWindows;
        const bool exists =
            window < kDataWindows && unsigned(i) < unsigned(rows) && unsigned(j) < unsigned(cols);
        const int64_t at = ((int64_t{n} * rows + i) * cols + j) * shape.k + k0;
        warp_for_each([&](int k) INLINED {
          const bool valid = exists && k < depth;
          winners[g].d.own(k) = valid ? dy[at + k] : 0.0f;
          winners[g].where.own(k) = valid ? argmax[at + k] : 0;
        });
      }

    // Eight threads bring 32 output channels of one row of w: one tap and input channel.
    constexpr int kAcross = kFilterDepth / 4, kRows = kTaps * kWarpSize, kAtOnce = 3;
    constexpr int kStride = kDataThreads / kAcross;
    const int k = threadIdx.x % kAcross * 4;
#pragma unroll 1
    for (int row = threadIdx.x / kAcross; row < kRows; row += kAtOnce * kStride) {
      float4 vector[kAtOnce];
      unrolled<kAtOnce>([&](auto i) INLINED {
        const int tap = (row + i * kStride) / kWarpSize, channel = (row + i * kStride) % kWarpSize;
        const int valid = tap < kTaps && channel < valid_c ? depth - k : 0;
        vector[i] = load4(w + (tap * shape.c + c + channel) * shape.k + k0 + k, valid, aligned_k);
      });
      unrolled<kAtOnce>([&](auto i) INLINED {
        const int tap = (row + i * kStride) / kWarpSize, channel = (row + i * kStride) % kWarpSize;
        if (tap >= kTaps) return;
        filter[tap][k][channel] = vector[i].x;
        filter[tap][k + 1][channel] = vector[i].y;
        filter[tap][k + 2][channel] = vector[i].z;
        filter[tap][k + 3][channel] = vector[i].w;
      });
    }
    __syncthreads();  // all threads wrote the filter, all warps read it
    if (warp_works())
#pragma unroll
      for (int g = 0; g < kWindowsPerWarp; ++g)
        unrolled2<2, 2>([&](auto a, auto b) INLINED {
          const unsigned some = warp_where([&](int k) INLINED {
            return winners[g].d.own(k) != 0.0f && winners[g].where.own(k) == 2 * a + b;
          });
          WarpFloat sum[3][3];
          unrolled2<3, 3>([&](auto r, auto s) INLINED { sum[r][s] = patch[g][a + r][b + s]; });
          for_each_bit(some, [&](int k) INLINED {
            const float d = winners[g].d.at(k);
            unrolled2<3, 3>([&](auto r, auto s) INLINED {
              const WarpFloat v = warp_load(filter[r * 3 + s][k], kWarpSize);
              sum[r][s] = warp_fma(d, v, sum[r][s]);
            });
          });
          unrolled2<3, 3>([&](auto r, auto s) INLINED { patch[g][a + r][b + s] = sum[r][s]; });
        });
    __syncthreads();  // all have read the filter; the next follows, or the tile
  }

  // What the thread will store, and its gates, loaded ahead.
  constexpr int kAcross = kWarpSize / 4, kRounds = ceil_div(kTileVectors, kDataThreads);
  const int64_t image = int64_t{n} * shape.h * shape.w * shape.c + c;
  int at[kRounds], valid[kRounds];
  float4 open[kRounds];
  unrolled<kRounds>([&](auto i) INLINED {
    const int e = threadIdx.x + i * kDataThreads, channel = e % kAcross * 4;
    const int row = e / kAcross / kTileSide, col = e / kAcross % kTileSide;
    const int h_index = 2 * top + row - shape.pad_h, w_index = 2 * left + col - shape.pad_w;
    const bool stored = e < kTileVectors && tiles_h.is_complete(row) && tiles_w.is_complete(col) &&
                        unsigned(h_index) < unsigned(shape.h) &&
                        unsigned(w_index) < unsigned(shape.w);
    at[i] = (h_index * shape.w + w_index) * shape.c + channel;
    valid[i] = stored ? valid_c - channel : 0;
    open[i] = make_float4(1, 1, 1, 1);
    if (gate != nullptr) open[i] = load4(gate + image + at[i], valid[i], aligned_c);
  });

#pragma unroll 1
  for (int round = 0; round < 4; ++round) {
    if (warp_works())
#pragma unroll
      for (int g = 0; g < kWindowsPerWarp; ++g) {
        const int window = warp + g * kDataWarps;
        const int i = window / kTileWindows, j = window % kTileWindows;
        if (window >= kDataWindows || i % 2 * 2 + j % 2 != round) continue;
        unrolled2<4, 4>([&](auto r, auto s) INLINED {
          float* to = tile[2 * i + r][2 * j + s];
          const WarpFloat v = patch[g][r][s];
          warp_store(to, round > 0 ? warp_load(to, kWarpSize) + v : v, kWarpSize);
        });
      }
    __syncthreads();  // the next round adds to the same pixels; after the last, threads read them
  }

  unrolled<kRounds>([&](auto i) INLINED {
    const int e = threadIdx.x + i * kDataThreads;
    if (e >= kTileVectors) return;
    const float4 v = reinterpret_cast<const float4*>(shared)[e];
    store4(dx + image + at[i], gated(v, open[i]), valid[i], aligned_c);
  });
}

void conv2d_pool_backward_data(float* dx, const float* dy, const uint8_t* argmax, const float* w,
                               const float* gate, const ConvShape& shape, cudaStream_t stream) {
  CHECK(conv2d_pool_fits(shape));
  CHECK(dx != nullptr && dy != nullptr && argmax != nullptr && w != nullptr);
  const PoolTiles tiles_h(shape.p / 2, shape.h + shape.pad_h);
  const PoolTiles tiles_w(shape.q / 2, shape.w + shape.pad_w);
  const int64_t tiles = int64_t{tiles_h.count} * tiles_w.count;
  const dim3 grid(unsigned(shape.n), unsigned(ceil_div(shape.c, kWarpSize)), unsigned(tiles));
  CHECK(grid.y <= 65535 && tiles <= 65535);
  const bool whole = shape.c % kWarpSize == 0 && shape.k % kFilterDepth == 0;
  const auto kernel =
      whole ? conv2d_pool_backward_data_kernel<true> : conv2d_pool_backward_data_kernel<false>;
  launch(kernel, grid, dim3(kDataThreads), stream, dx, dy, argmax, w, gate, tiles_h, tiles_w,
         shape);
}

}  // namespace mnist::MNIST_TARGET
