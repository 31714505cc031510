// Both convolutions backward, without the update: from the gradient da2 by the second pooling's
// output, the gradients of both filters and biases, of each image by itself.
//
//   dY[p][k]        = da2[p's window][k] where p is the window's winner, else 0     [10x10][64]
//   dw2[t][c][k]    = sum over p of a1[p + t][c] dY[p][k]                           9 taps t
//   d[q][c]         = sum over t and k of dY[q - t][k] w2[t][c][k]                  [12x12][32]
//   dw1[r,s][c]     = sum over q of pixel[2 q + winner(q,c) + (r,s)] d[q][c]
//   biases: the sums of dY, and of d where there is a winner
//
// An image a block, 12 warps, of which each makes a twelfth of all three products:
//   d     transposed, [32 c][144 q]: a warp has 16 channels (2) of a band of 4 columns (3), summed
//         over half of the 64 k (2). Eight columns of the product are 2 rows x 4 columns of q:
//                 n = 0 2 4 6       so that the same eight of dY serve the taps of r = 0, and for
//                     1 3 5 7       the q two rows below those of r = 2; where all eight are
//         outside of dY nothing is multiplied. The filter's 18 fragments are loaded before da2 is
//         there.
//   dw1   [rows 4 r + s of conv1_w][16 c] of the band that the warp has just made: gemm_k is 4 q of
//         a row, 4 winners each. The halves of d, each rounded, are two operands: dw1 is linear in
//         d, so no warp waits for another. A lane's d, moved to its winner, is a register of B; the
//         pixels are eight neighbours. A row of ones sums the bias.
//   dw2   [3 r, 16 c (2)][32 k (2)] for one s (3), over the positions 12 y + x up to 127.
// dw1's and dw2's products take turns: the former are a chain, the latter fill its gaps.
#include "kernels/fused/conv_backward.cuh"
#include "kernels/fused/half.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/unrolled.cuh"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {
namespace {

using Tile = ConvBackwardTile;
using fused::kChannels1, fused::kChannels2, fused::kFlat, fused::kPixels, fused::kPositions;
using fused::kSide1, fused::kSide2, fused::kSmallSums, fused::kTaps, fused::kWindows;

constexpr int kChunks1 = kChannels1 / 8, kChunks2 = kChannels2 / 8;  // of 16 bytes
constexpr int kConvSide = 2 * kSide2;                                // dY's
constexpr uint32_t kOnes = 0x3C003C00;                               // a pair of halves

template <typename T>
__device__ __forceinline__ T& shared(int offset) {
  return *reinterpret_cast<T*>(dynamic_smem + offset);
}

// The row of dY of position 2a + b of a window.
__device__ __forceinline__ int position_of(int window, int code) {
  return (window / kSide2 * 2 + code / 2) * kSide1 + window % kSide2 * 2 + code % 2;
}

// f(row, column) by the block's threads in turn.
template <int kRows, int kColumns, typename F>
__device__ __forceinline__ void for_each(const F& f) {
  block_for_each<kRows, kColumns, Tile::kWarps>(f);
}

// What goes to shared memory as it is.
__device__ __forceinline__ void fetch(const FusedMemory& memory, int image) {
  for_each<kTaps * kChannels1, kChunks2>([&](int row, int chunk) INLINED {
    cp_async_16(&shared<uint4>(Tile::filter(row, chunk)),
                memory.conv2_w + row * kChannels2 + chunk * 8);
  });
  const Half* a1 = memory.a1 + int64_t{image} * kPositions * kChannels1;
  for_each<kPositions, kChunks1>([&](int position, int chunk) INLINED {
    cp_async_16(&shared<uint4>(Tile::a1(position, chunk)), a1 + position * kChannels1 + chunk * 8);
  });
  const uint8_t* code2 = memory.code2 + int64_t{image} * kFlat;
  for_each<kWindows, kChannels2 / 16>([&](int window, int i) INLINED {
    const int at = window * kChannels2 + i * 16;
    cp_async_16(&shared<uint4>(Tile::kCode2 + at), code2 + at);
  });
  cp_async_commit();
}

// The pixels as halves.
__device__ __forceinline__ void fetch_pixels(const uint8_t* image) {
  for_each<Tile::kPixelUnits / 4, 4>([&](int i, int s) INLINED {
    const int b = i / Tile::kPixelRows, y = i % Tile::kPixelRows;
    const uint32_t* row = reinterpret_cast<const uint32_t*>(image + y * fused::kSide + b * 8);
    const uint32_t words[3] = {row[0], row[1], row[2]};
    uint32_t pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint64_t eight = words[j / 2] | uint64_t{words[j / 2 + 1]} << 32;
      const uint32_t two = uint32_t(eight >> (8 * s)) >> (j % 2 * 16);
      pairs[j] = s == 3 ? kOnes
                        : pack_half2(float(two & 255) * (1.0f / 256),
                                     float(two >> 8 & 255) * (1.0f / 256));
    }
    shared<uint4>(Tile::pixels(b, y, s)) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  });
}

// Zeros around dY.
__device__ __forceinline__ void make_frame() {
  constexpr int kAround = Tile::kFrameEnd - Tile::kFrameBegin - kConvSide * kConvSide;
  for_each<kAround, kChunks2>([&](int row, int chunk) INLINED {
    constexpr int kBefore = -Tile::kFrameBegin, kBetween = (kSide1 - kConvSide) * kConvSide;
    const int between = row - kBefore;
    const int position = row < kBefore        ? row + Tile::kFrameBegin
                         : between < kBetween ? between / 2 * kSide1 + kConvSide + between % 2
                                              : between - kBetween + kConvSide * kSide1;
    shared<uint4>(Tile::dy(position, chunk)) = make_uint4(0, 0, 0, 0);
  });
}

// Moves da2 to the winners: eight channels of a window a thread.
class Unpool {
 public:
  // Where da2 does not belong, ones in all bits.
  __device__ __forceinline__ void make_masks() {
    for_each_unit([&](int lane, int at, int, int) INLINED {
      const uint2 codes = shared<uint2>(Tile::kCode2 + at);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t two = prmt(j < 2 ? codes.x : codes.y, 0, j % 2 == 0 ? 0x4140 : 0x4342);
#pragma unroll
        for (uint32_t code = 0; code < 4; ++code) {
          const uint32_t differs = (two ^ code * 0x00010001) + 0x7FFF7FFF;  // in the highest bits
          masks_[code][j].own(lane) = prmt(differs, 0, 0xBB99);
        }
      }
    });
  }
  __device__ __forceinline__ void run(const Half* da2) const {
    for_each_unit([&](int lane, int at, int window, int chunk) INLINED {
      const uint4 d = *reinterpret_cast<const uint4*>(da2 + at);
      const auto masked = [&](int code) INLINED {
        const auto mask = [&](int j) INLINED { return ~masks_[code][j].own(lane); };
        return make_uint4(d.x & mask(0), d.y & mask(1), d.z & mask(2), d.w & mask(3));
      };
#pragma unroll
      for (int code = 0; code < 4; ++code)
        shared<uint4>(Tile::dy(position_of(window, code), chunk)) = masked(code);
      shared<uint4>(Tile::kDa2 + at * 2) = d;
    });
  }

 private:
  template <typename F>
  static __device__ __forceinline__ void for_each_unit(const F& f) {
    static_assert(kFlat / 8 <= Tile::kWarps * 32);
    warp_for_each([&](int lane) INLINED {
      const int unit = warp_index() * 32 + lane;
      if (unit < kFlat / 8) f(lane, unit * 8, unit / kChunks2, unit % kChunks2);
    });
  }

  WarpArray<uint32_t> masks_[4][4];  // [code][pair]
};

// A warp's part of d and of the first filter's gradient.
class FirstLayer {
 public:
  static constexpr int kPairs = kSide1 / 2;  // of rows of q

  __device__ __forceinline__ FirstLayer()
      : c_begin_(warp_index() / 6 * 16),
        chunk_begin_(warp_index() / 3 % 2 * 4),
        band_(warp_index() % 3) {}

  // Begins to load the winners.
  __device__ __forceinline__ void fetch_winners(const uint8_t* code1) {
    warp_for_each([&](int lane) INLINED {
      const uint8_t* from = code1 + (4 * band_ + lane % 4) * kChannels1 + c_begin_ + lane / 4;
#pragma unroll
      for (int j = 0; j < kPairs; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          winners_[j][i].own(lane) = from[(2 * j + i % 2) * kSide1 * kChannels1 + i / 2 * 8];
    });
  }
  // Ends that.
  __device__ __forceinline__ void place_winners() {
    warp_for_each([&](int lane) INLINED {
#pragma unroll
      for (int j = 0; j < kPairs; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) places_[j].set(lane, i, winners_[j][i].own(lane));
    });
  }
  __device__ __forceinline__ void load_filter() {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
        load_a_row_major(filter_[tap][h], [&](int lane) INLINED {
          return &shared<uint4>(Tile::filter(tap * kChannels1 + c_begin_ + lane % 16,
                                             chunk_begin_ + 2 * h + lane / 16));
        });
    }
  }

  // Makes d; returns how many values saturated.
  __device__ __forceinline__ unsigned make_d() {
#pragma unroll
    for (int s = 0; s < 3; ++s) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int j = 0; j < kPairs - 1; ++j) {
          const FragB<8> b = load_dy(j, 0, s, h);
          mma(d_[j], filter_[s][h], b);
          mma(d_[j + 1], filter_[6 + s][h], b);
        }
#pragma unroll
        for (int j = 0; j < kPairs; ++j) mma(d_[j], filter_[3 + s][h], load_dy(j, 1, s, h));
      }
    }
    unsigned saturated = 0;
    saturate(d_, saturated);
    return saturated;
  }

  // What the rows 2j and 2j + 1 of d add to the gradient.
  __device__ __forceinline__ void add_rows(int j) {
    FragB<16> b[2];
    places_[j].move(b, d_[j]);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      FragA a;
      load_a_row_major(a, [&](int lane) INLINED {
        return &shared<uint4>(Tile::pixels(band_, 2 * (2 * j + e) + lane / 16, lane % 16));
      });
      mma(sums_, a, b[e]);
    }
  }
  // Leaves the part in shared memory.
  __device__ __forceinline__ void store() const {
    warp_for_each([&](int lane) INLINED {
#pragma unroll
      for (int i = 0; i < Sums<16>::kCount; i += 2) {
        const int row = Sums<16>::row(lane, i);
        if (row < Tile::kFirstRows)
          shared<float2>(part(warp_index(), row, Sums<16>::column(lane, i))) =
              make_float2(sums_.at(lane, i), sums_.at(lane, i + 1));
      }
    });
  }

  // The sum of all parts in channel c of row 4 r + s.
  static __device__ __forceinline__ float total(int row, int c) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < 6; ++i) total += shared<float>(part(c / 16 * 6 + i, row, c % 16));
    return total;
  }

 private:
  static __device__ __forceinline__ int part(int warp, int row, int column) {
    return Tile::kFirst +
           ((warp * Tile::kFirstRows + row) * Tile::kFirstPitch + column) * int(sizeof(float));
  }

  // dY at rows y = 2j - odd and y + 1 and columns 4 band - s and the next three, channels 16 h of
  // the warp's.
  __device__ __forceinline__ FragB<8> load_dy(int j, int odd, int s, int h) const {
    FragB<8> b;
    load_b_col_major(b, [&](int lane) INLINED {
      const int n = lane % 8;
      // Written so that few addresses are computed: two rows on, the order of chunks is the same.
      const int first =
          Tile::dy((n % 2 - odd) * kSide1 + 4 * band_ + n / 2 - s, chunk_begin_ + lane / 8);
      return &shared<uint4>((first ^ 32 * h) + j * 2 * kSide1 * kChannels2 * 2);
    });
    return b;
  }
  static_assert(Tile::kDy % 128 == 0 && 2 * kSide1 % 8 == 0);

  const int c_begin_, chunk_begin_, band_;
  FragA filter_[kTaps][2];
  WarpArray<uint8_t> winners_[kPairs][4];
  Placement places_[kPairs];
  Sums<8> d_[kPairs];
  Sums<16> sums_;
};

// A warp's part of the second filter's gradient.
class SecondLayer {
 public:
  static constexpr int kSteps = 8;

  __device__ __forceinline__ SecondLayer()
      : s_(warp_index() % 3), c16_(warp_index() / 3 % 2), k32_(warp_index() / 6) {}

  // Adds 16 positions.
  __device__ __forceinline__ void step(int i) {
    const int p = 16 * i;
    FragB<16> b[2];
#pragma unroll
    for (int j = 0; j < 2; ++j)
      load_b_row_major(b[j], [&](int lane) INLINED {
        return &shared<uint4>(Tile::dy(p + lane % 16, 4 * k32_ + 2 * j + lane / 16));
      });
#pragma unroll
    for (int r = 0; r < 3; ++r) {
      FragA a;
      load_a_col_major(a, [&](int lane) INLINED {
        return &shared<uint4>(
            Tile::a1(p + lane % 8 + lane / 16 * 8 + r * kSide1 + s_, 2 * c16_ + lane / 8 % 2));
      });
#pragma unroll
      for (int j = 0; j < 2; ++j) mma(sums_[2 * r + j], a, b[j]);
    }
  }

  // Returns how many values saturated.
  __device__ __forceinline__ unsigned store(Half* conv2_dw) {
    unsigned saturated = 0;
    saturate(sums_, saturated);
#pragma unroll
    for (int r = 0; r < 3; ++r) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const Sums<16>& sums = sums_[2 * r + j];
        Half* to = conv2_dw + conv2_dw_tile(3 * r + s_, c16_, 2 * k32_ + j);
        warp_for_each([&](int lane) INLINED {
          uint32_t pairs[4];
#pragma unroll
          for (int i = 0; i < 4; ++i)
            pairs[i] = pack_half2(sums.at(lane, 2 * i), sums.at(lane, 2 * i + 1));
          reinterpret_cast<uint4*>(to)[lane] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        });
      }
    }
    return saturated;
  }

 private:
  const int s_, c16_, k32_;
  Sums<16> sums_[6];  // [r][j]
};

}  // namespace

// Grid: a block an image; block [kWarpThreads, 12].
__global__ void __launch_bounds__(Tile::kWarps * 32, 1)
    fused_conv_backward_kernel(FusedMemory memory, const uint8_t* pixels) {
  const int image = int(blockIdx.x);
  FirstLayer first;
  fetch(memory, image);
  first.fetch_winners(memory.code1 + int64_t{image} * kPositions * kChannels1);
  fetch_pixels(pixels + int64_t{image} * kPixels);
  cp_async_wait<0>();
  __syncthreads();  // the operands are there
  first.load_filter();
  first.place_winners();
  __syncthreads();  // dY takes the filter's place
  make_frame();
  Unpool unpool;
  unpool.make_masks();

  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  unpool.run(memory.da2 + int64_t{image} * kFlat);
  __syncthreads();  // dY is there

  unsigned saturated = first.make_d();
  for_each<kSide2, kChannels2>([&](int row, int k) INLINED {
    float sum = 0;
#pragma unroll
    for (int x = 0; x < kSide2; ++x)
      sum += half_to_float(shared<Half>(Tile::kDa2 + ((row * kSide2 + x) * kChannels2 + k) * 2));
    shared<float>(Tile::kBias + (row * kChannels2 + k) * 4) = sum;
  });
  SecondLayer second;
#pragma unroll
  for (int i = 0; i < SecondLayer::kSteps; ++i) {
    second.step(i);
    if (i < FirstLayer::kPairs) first.add_rows(i);
  }
  first.store();
  saturated += second.store(memory.conv2_dw + int64_t{image} * kConv2FilterSize);
  add_saturated(*memory.metrics, saturated);
  __syncthreads();  // all parts are there

  float* small_sums = memory.small_sums + int64_t{image} * kSmallSums;
  for_each<kSmallSums / 32, 32>([&](int row, int column) INLINED {
    float sum = 0;
    if (row <= kTaps) {
      sum = FirstLayer::total(row < kTaps ? row / 3 * 4 + row % 3 : 3, column);
    } else {
      const int k = (row - kTaps - 1) * 32 + column;
#pragma unroll
      for (int y = 0; y < kSide2; ++y) sum += shared<float>(Tile::kBias + (y * kChannels2 + k) * 4);
    }
    small_sums[row * 32 + column] = sum;
  });
}

void fused_conv_backward(const FusedMemory& memory, const uint8_t* pixels, int batch,
                         cudaStream_t stream) {
  CHECK(batch > 0 && batch <= kFusedBatch);
  launch_dependent(fused_conv_backward_kernel, dim3(unsigned(batch)),
                   dim3(kWarpThreads, Tile::kWarps), Tile::kBytes, stream, memory, pixels);
}

}  // namespace mnist::MNIST_TARGET
