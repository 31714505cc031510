// Both convolutions, each with bias, ReLU and 2x2 pooling, of one image per block:
//   a1[p][c] = relu(b1[c] + the largest of conv1(pixels)[the window of p][c])   144 x 32
//   a2[w][k] = relu(b2[k] + the largest of conv2(a1)[the window of w][k])        25 x 64
// and, for training, a1 and both argmax codes in global memory.
//
// The four positions q = 2a + b of a pooling window see 4x4 values, its patch: position (a,b) meets
// element (i,j) of the patch with tap (i-a, j-b). So a fragment of patches, loaded once, serves up
// to four products, whose sums are the four positions of the same windows in the same lanes: the
// maximum needs no exchange.
//
// First convolution: the 16 elements of a patch are gemm_k, windows are rows, channels columns:
//   sums[q] [16 windows, 8 channels] = patches [16 windows, 16] filter[q] [16, 8]
// Row (i,j) of filter[q] is tap (i-a, j-b), or the zero row where there is none. 12 warps: warp v
// has the channels from 8 (v%4) on and of the 9 tiles of 16 windows those numbered v/4, v/4 + 3 and
// v/4 + 6: as much for each of the four schedulers, which have the warps v%4. a1 and its codes go
// to shared memory. Until the kernel before has ended, each lane finds its places there.
//
// Second convolution, the other way round, since 25 windows fill the 8 columns of a tile better
// than 16 rows:
//   sums[q] [16 channels, windows] += filter[tap] [16 channels, 16 inputs] patch [16, windows]
// Warps 0 to 3: channels from 16 v on of windows 0 to 15. Warps 4 to 7: the same of windows 16 to
// 23; and of the last window, whose four positions are four columns of one more tile. Each
// scheduler has one of both. Meanwhile warps 8 to 11 copy a1 and its codes to global memory.
//
// Order of a sum: inputs by sixteens; in these, the elements of the patch (for the last window,
// the taps) row by row.
#include "kernels/check.h"
#include "kernels/fused/conv_forward.cuh"
#include "kernels/fused/fused.h"
#include "kernels/fused/half.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {

// Maximum, bias and ReLU of a window's four sums, and the code. The first of equals wins; a filter
// or bias that is NaN gives NaN.
__device__ __forceinline__ float pool_window(const float (&v)[4], float bias, unsigned& code) {
  const bool right_above = v[1] > v[0], right_below = v[3] > v[2];
  const float above = right_above ? v[1] : v[0], below = right_below ? v[3] : v[2];
  const bool is_below = below > above;
  const float y = (is_below ? below : above) + bias;
  const unsigned place = is_below ? 2u + right_below : 0u + right_above;
  const bool closed = y <= 0.0f;
  code = closed ? 4u : place;
  return closed ? 0.0f : y;
}

// The pixels of an image as halves u / 256.
__device__ __forceinline__ void load_pixels(const uint8_t* pixels) {
  constexpr int kFours = ConvForward::kPixelPitch / 8;  // in a row, one of them unused
  block_for_each(fused::kSide * kFours, [&](int e) {
    const int row = e / kFours, four = e % kFours;
    if (four == fused::kSide / 4) return;
    const uchar4 u = *reinterpret_cast<const uchar4*>(pixels + row * fused::kSide + four * 4);
    constexpr float kUnit = 1.0f / 256;
    uint2 halves;
    halves.x = pack_half2(float(u.x) * kUnit, float(u.y) * kUnit);
    halves.y = pack_half2(float(u.z) * kUnit, float(u.w) * kUnit);
    *reinterpret_cast<uint2*>(dynamic_smem + ConvForward::kPixelsAt + e * 8) = halves;
  });
}

// Where in shared memory a lane leaves what it copies, and where the first convolution finds and
// leaves things: of a warp's first tile, half 0 is the window in row lane/4 and half 1 that in row
// lane/4 + 8. The warp's tiles are 48 windows apart, which are four rows of them.
struct Places {
  WarpArray<int> copy, filter[4], pixels[2], row[2], code[2];  // row: of a1
};
__device__ __forceinline__ void find(Places& at) {
  using Tile = ConvForward;
  const int warp = warp_index(), chunk = warp % Tile::kChunks1, tile = warp / Tile::kChunks1;
  const auto keep = [](int& place, int value) INLINED {
    place = value;
    compute_now(place);
  };
  warp_for_each([&](int lane) INLINED {
    const int e = warp * 32 + lane, e2 = e - (Tile::kBias2Warp + 1) * 32;
    keep(at.copy.own(lane),
         warp < Tile::kBias1Warp
             ? Tile::kConv1At + half_row_address(e / Tile::kChunks1, e % Tile::kChunks1)
         : warp == Tile::kBias1Warp ? Tile::kBias1At + lane * 16
         : warp == Tile::kBias2Warp ? Tile::kBias2At + lane * 16
                                    : Tile::kConv2At + full_row_address(e2 / 8, e2 % 8));
    unrolled2<2, 2>([&](auto a, auto b) INLINED {
      keep(at.filter[2 * a + b].own(lane),
           Tile::kConv1At + half_row_address(Tile::filter_row(lane % 16, a, b), chunk));
    });
    unrolled<2>([&](auto half) INLINED {
      const int window = tile * 16 + lane / 4 + half * 8;
      keep(at.pixels[half].own(lane), Tile::pixel_address(window, lane % 4));
      keep(at.row[half].own(lane), position_row(window / fused::kSide1, window % fused::kSide1));
      keep(at.code[half].own(lane),
           Tile::kCode1At + Tile::code_address(window, chunk) + lane % 4 * 2);
    });
  });
}

// Starts the copies of what the first convolution waits for, and of the second filter: two groups.
__device__ __forceinline__ void copy_weights(const FusedMemory& memory, const Places& places) {
  using Tile = ConvForward;
  const int warp = warp_index();
  warp_for_each([&](int lane) INLINED {
    unsigned char* at = dynamic_smem + places.copy.own(lane);
    if (warp < Tile::kBias1Warp)
      cp_async_16(at, memory.conv1_w + (warp * 32 + lane) * 8);
    else if (warp == Tile::kBias1Warp && lane < fused::kChannels1 / 4)
      cp_async_16(at, memory.weights + memory.at.conv1_b + lane * 4);
    else if (warp == Tile::kBias2Warp && lane < fused::kChannels2 / 4)
      cp_async_16(at, memory.weights + memory.at.conv2_b + lane * 4);
  });
  cp_async_commit();
  if (warp > Tile::kBias2Warp)
    warp_for_each([&](int lane) INLINED {  // the slots repeat from tap to tap
      unsigned char* at = dynamic_smem + places.copy.own(lane);
      const Half* from = memory.conv2_w + ((warp - Tile::kBias2Warp - 1) * 32 + lane) * 8;
      unrolled<fused::kTaps>([&](auto tap) INLINED {
        cp_async_16(at + tap * fused::kChannels1 * 128,
                    from + tap * fused::kChannels1 * fused::kChannels2);
      });
    });
  cp_async_commit();
}

template <bool kTraining>
__device__ __forceinline__ void first_convolution(const Places& at, float& saturated) {
  using Tile = ConvForward;
  const int chunk = warp_index() % Tile::kChunks1;
  FragB<8> filter[4];
  unrolled<4>([&](auto q) INLINED {
    load_b_row_major(filter[q],
                     [&](int lane) INLINED { return dynamic_smem + at.filter[q].own(lane); });
  });
  constexpr int kMine = Tile::kTiles / Tile::kTileStep;
  FragA patches[kMine];  // first of all, since no load goes past the stores of a tile before
  warp_for_each([&](int lane) INLINED {
    unrolled2<kMine, 4>([&](auto i, auto r) INLINED {
      constexpr int rows = i * 2 * 4 + r / 2 * 2;
      patches[i].set(lane, r,
                     *reinterpret_cast<const uint32_t*>(dynamic_smem + at.pixels[r % 2].own(lane) +
                                                        rows * Tile::kPixelPitch));
    });
  });
  unrolled<kMine>([&](auto i) INLINED {
    Sums<8> sums[4];
    unrolled<4>([&](auto q) INLINED { mma(sums[q], patches[i], filter[q]); });
    warp_for_each([&](int lane) INLINED {
      const float2 b = *reinterpret_cast<const float2*>(dynamic_smem + Tile::kBias1At +
                                                        (chunk * 8 + lane % 4 * 2) * 4);
      float y[4];
      unsigned code[4];
      unrolled<4>([&](auto e) INLINED {
        const float v[4] = {sums[0].at(lane, e), sums[1].at(lane, e), sums[2].at(lane, e),
                            sums[3].at(lane, e)};
        y[e] = pool_window(v, e % 2 == 0 ? b.x : b.y, code[e]);
      });
      uint32_t halves[2];
      halves[0] = saturated_positive2(y[0], y[1], saturated);
      halves[1] = saturated_positive2(y[2], y[3], saturated);
      unrolled<2>([&](auto half) INLINED {
        const int row = at.row[half].own(lane) + i * position_row(4, 0);
        *reinterpret_cast<uint32_t*>(dynamic_smem + Tile::kA1At + half_row_address(row, chunk) +
                                     lane % 4 * 4) = halves[half];
        if constexpr (kTraining)
          *reinterpret_cast<uint16_t*>(dynamic_smem + at.code[half].own(lane) +
                                       i * 48 * Tile::kCodePitch) =
              uint16_t(code[2 * half] | code[2 * half + 1] << 8);
      });
    });
  });
}

// The channels from `channel` on, 16 of them, of kColumns windows from `window` on; with kLast also
// of the last window. a2 [25][64] and code2 [25][64] are the image's.
template <bool kTraining, int kColumns, bool kLast>
__device__ __forceinline__ void second_convolution(const FusedMemory& memory, int channel,
                                                   int first_window, float& saturated) {
  using Tile = ConvForward;
  Sums<kColumns> sums[4];
  [[maybe_unused]] Sums<8> last_sums;
  // Addresses for the inputs from 0 on. Those from 16 on are 32 bytes, which is one bit, away in
  // the slots of a1. Pairs of half rows 4 apart have slots 64 bytes apart, and so have both of a
  // pair.
  WarpArray<int> tap, corner[4];
  warp_for_each([&](int lane) INLINED {
    const int row = Tile::patch_row(first_window + lane % 8 + lane / 16 * 8) / 2;
    const int half = lane / 8 % 2;
    tap.own(lane) = Tile::kConv2At + full_row_address(lane % 8 + lane / 16 * 8, channel / 8 + half);
    unrolled<4>([&](auto m) INLINED {
      corner[m].own(lane) = Tile::kA1At + full_row_address(row + m, half) - m * 128;
    });
  });
#pragma unroll 1
  for (int bytes = 0; bytes < fused::kChannels1 * 2; bytes += 32) {
    const auto filter_tap = [&](int t) INLINED {
      return [=, &tap](int lane) INLINED {
        return dynamic_smem + tap.own(lane) + bytes * 64 + t * fused::kChannels1 * 128;
      };
    };
    const auto a1_row = [&](int row, int lane) INLINED {
      return dynamic_smem + ((Tile::kA1At + half_row_address(row, lane / 8 % 2)) ^ bytes);
    };
    const auto element = [&](auto i, auto j) INLINED {
      constexpr int row = position_row(i, j) / 2;
      return [=, &corner](int lane) INLINED {
        return dynamic_smem + (corner[row % 4].own(lane) ^ ((row / 4 + j) % 2 * 64 + bytes)) +
               row * 128;
      };
    };
    const auto last_position = [&](int r, int s) INLINED {  // of column q, and again of q + 4
      return [=](int lane) INLINED {
        constexpr int y = Tile::kLastWindow / fused::kSide2 * 2;
        constexpr int x = Tile::kLastWindow % fused::kSide2 * 2;
        return a1_row(position_row(y + r + lane / 2 % 2, x + s + lane % 2), lane);
      };
    };
    FragA filter[fused::kTaps];
    unrolled<4>([&](auto i) INLINED {
      if constexpr (i < 3)
        unrolled<3>([&](auto s) INLINED {
          load_a_col_major(filter[3 * i + s], filter_tap(3 * i + s));
          if constexpr (kLast) {
            FragB<8> position;
            load_b_col_major(position, last_position(i, s));
            mma(last_sums, filter[3 * i + s], position);
          }
        });
      unrolled<4>([&](auto j) INLINED {
        FragB<kColumns> patch;
        load_b_col_major(patch, element(i, j));
        unrolled2<2, 2>([&](auto a, auto b) INLINED {
          constexpr int r = i - a, s = j - b;
          if constexpr (r >= 0 && r < 3 && s >= 0 && s < 3)
            mma(sums[2 * a + b], filter[3 * r + s], patch);
        });
      });
    });
  }

  // Window w and channel k count from those that `at` stands for, the lane's first.
  const int64_t image = blockIdx.x * int64_t{fused::kFlat};
  const auto store = [&](int at, int w, int k, Half half, unsigned code) INLINED {
    memory.a2[image + at + (w * fused::kChannels2 + k)] = half;
    if constexpr (kTraining) memory.code2[image + at + (w * fused::kChannels2 + k)] = uint8_t(code);
  };
  warp_for_each([&](int lane) INLINED {
    const int first = channel + Sums<kColumns>::row(lane, 0);
    const int at = (first_window + Sums<kColumns>::column(lane, 0)) * fused::kChannels2 + first;
    const float* bias = reinterpret_cast<const float*>(dynamic_smem + Tile::kBias2At) + first;
    unrolled<kColumns / 4>([&](auto pair) INLINED {
      constexpr int k = Sums<kColumns>::row(0, 2 * pair);
      constexpr int window = Sums<kColumns>::column(0, 2 * pair);
      float y[2];
      unsigned code[2];
      unrolled<2>([&](auto e) INLINED {
        constexpr int i = 2 * pair + e;
        const float v[4] = {sums[0].at(lane, i), sums[1].at(lane, i), sums[2].at(lane, i),
                            sums[3].at(lane, i)};
        y[e] = pool_window(v, bias[k], code[e]);
      });
      const uint32_t halves = saturated_positive2(y[0], y[1], saturated);
      store(at, window, k, Half(halves), code[0]);
      store(at, window + 1, k, Half(halves >> 16), code[1]);
    });
  });
  if constexpr (kLast) {
    WarpArray<float> values[4];
    warp_for_each([&](int lane) INLINED {
      unrolled<4>([&](auto e) INLINED { values[e].own(lane) = last_sums.at(lane, e); });
    });
    warp_for_each([&](int lane) INLINED {
      float below[4];
      unrolled<4>([&](auto e) INLINED { below[e] = values[e].at(lane | 1); });
      if (lane % 4 != 0) return;
      const int first = channel + lane / 4, at = Tile::kLastWindow * fused::kChannels2 + first;
      const float* bias = reinterpret_cast<const float*>(dynamic_smem + Tile::kBias2At) + first;
      const float low[4] = {values[0].own(lane), values[1].own(lane), below[0], below[1]};
      const float high[4] = {values[2].own(lane), values[3].own(lane), below[2], below[3]};
      unsigned code[2];
      const float y0 = pool_window(low, bias[0], code[0]);
      const float y1 = pool_window(high, bias[8], code[1]);
      const uint32_t halves = saturated_positive2(y0, y1, saturated);
      store(at, 0, 0, Half(halves), code[0]);
      store(at, 0, 8, Half(halves >> 16), code[1]);
    });
  }
}

// a1 [144][32] and code1 [144][32] of an image, by the warps from kCopyWarp on.
__device__ __forceinline__ void copy_first(Half* a1, uint8_t* code1) {
  using Tile = ConvForward;
  constexpr int kCopies = (Tile::kWarps - Tile::kCopyWarp) * 32;
  constexpr int kVectors = fused::kPositions * Tile::kChunks1;
  warp_for_each([&](int lane) INLINED {
    for (int e = (warp_index() - Tile::kCopyWarp) * 32 + lane; e < kVectors; e += kCopies) {
      const int position = e / Tile::kChunks1, chunk = e % Tile::kChunks1;
      const int row = position_row(position / fused::kSide1, position % fused::kSide1);
      *reinterpret_cast<uint4*>(a1 + e * 8) = *reinterpret_cast<const uint4*>(
          dynamic_smem + Tile::kA1At + half_row_address(row, chunk));
      *reinterpret_cast<uint2*>(code1 + e * 8) = *reinterpret_cast<const uint2*>(
          dynamic_smem + Tile::kCode1At + Tile::code_address(position, chunk));
    }
  });
}

// Grid: an image a block.
template <bool kTraining>
__global__ void __launch_bounds__(kWarpThreads* ConvForward::kWarps, ConvForward::kBlocks)
    fused_conv_forward_kernel(FusedMemory memory, const uint8_t* pixels) {
  const int64_t image = blockIdx.x;
  const int warp = warp_index();
  Places places;
  find(places);
  load_pixels(pixels + image * fused::kPixels);
  griddepcontrol_wait();
  copy_weights(memory, places);
  cp_async_wait<1>();
  __syncthreads();

  float saturated = 0;
  first_convolution<kTraining>(places, saturated);
  cp_async_wait<0>();
  __syncthreads();
  griddepcontrol_launch_dependents();

  if (warp >= ConvForward::kCopyWarp) {
    if constexpr (kTraining)
      copy_first(memory.a1 + image * (fused::kPositions * fused::kChannels1),
                 memory.code1 + image * (fused::kPositions * fused::kChannels1));
  } else if (warp < 4) {
    second_convolution<kTraining, 16, false>(memory, warp % 4 * 16, 0, saturated);
  } else {
    second_convolution<kTraining, 8, true>(memory, warp % 4 * 16, 16, saturated);
  }
  if (saturated != 0) add_saturated(*memory.metrics, unsigned(saturated));
}

template <bool kTraining>
static void launch_conv_forward(const FusedMemory& memory, const uint8_t* pixels, int n,
                                cudaStream_t stream) {
  CHECK(n >= 1 && pixels != nullptr && memory.weights != nullptr && memory.metrics != nullptr);
  CHECK(memory.conv1_w != nullptr && memory.conv2_w != nullptr && memory.a2 != nullptr);
  CHECK(memory.at.conv1_b % 4 == 0 && memory.at.conv2_b % 4 == 0);
  launch_dependent(fused_conv_forward_kernel<kTraining>, dim3(unsigned(n)),
                   dim3(kWarpThreads, ConvForward::kWarps), ConvForward::kSharedBytes, stream,
                   memory, pixels);
}

void fused_conv_forward(const FusedMemory& memory, const uint8_t* pixels, int n,
                        cudaStream_t stream) {
  launch_conv_forward<false>(memory, pixels, n, stream);
}

void fused_conv_forward_training(const FusedMemory& memory, const uint8_t* pixels, int batch,
                                 cudaStream_t stream) {
  CHECK(batch <= kFusedBatch && memory.a1 != nullptr);
  CHECK(memory.code1 != nullptr && memory.code2 != nullptr);
  launch_conv_forward<true>(memory, pixels, batch, stream);
}

}  // namespace mnist::MNIST_TARGET
