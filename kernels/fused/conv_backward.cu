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
//   d     transposed, [32 c][144 q]: a warp has 16 channels (2) of a band of 4 columns (3), and
//   sums
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
using fused::kSide1, fused::kSide2, fused::kSmallSums, fused::kTaps;

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

// The image's operands that are there before da2 is.
__device__ __forceinline__ void fetch(const FusedMemory& memory, const uint8_t* pixels, int image) {
  block_for_each(kTaps * kChannels1 * kChunks2, [&](int i) INLINED {
    cp_async_16(&shared<uint4>(Tile::filter(i / kChunks2, i % kChunks2)), memory.conv2_w + i * 8);
  });
  const Half* a1 = memory.a1 + int64_t{image} * kPositions * kChannels1;
  block_for_each(kPositions * kChunks1, [&](int i) INLINED {
    cp_async_16(&shared<uint4>(Tile::a1(i / kChunks1, i % kChunks1)), a1 + i * 8);
  });
  block_for_each(kFlat / 16, [&](int i) INLINED {
    cp_async_16(&shared<uint4>(Tile::kCode2 + i * 16),
                memory.code2 + int64_t{image} * kFlat + i * 16);
  });
  cp_async_commit();
  block_for_each(Tile::kPixelUnits, [&](int i) INLINED {
    const int b = i / 4 / Tile::kPixelRows, y = i / 4 % Tile::kPixelRows, s = i % 4;
    uint32_t pairs[4] = {kOnes, kOnes, kOnes, kOnes};
    if (s < 3) {
      const uint8_t* row = pixels + int64_t{image} * kPixels + y * fused::kSide + b * 8 + s;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        pairs[j] = pack_half2(row[2 * j] * (1.0f / 256), row[2 * j + 1] * (1.0f / 256));
    }
    shared<uint4>(Tile::pixels(b, y, s)) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  });
  cp_async_wait<0>();
}

// Zeros around dY, and in it ones in all bits where da2 belongs.
__device__ __forceinline__ void make_masks() {
  constexpr int kAround = Tile::kFrameEnd - Tile::kFrameBegin - kConvSide * kConvSide;
  block_for_each(kAround * kChunks2, [&](int i) INLINED {
    constexpr int kBefore = -Tile::kFrameBegin, kBetween = (kSide1 - kConvSide) * kConvSide;
    const int row = i / kChunks2, between = row - kBefore;
    const int position = row < kBefore        ? row + Tile::kFrameBegin
                         : between < kBetween ? between / 2 * kSide1 + kConvSide + between % 2
                                              : between - kBetween + kConvSide * kSide1;
    shared<uint4>(Tile::dy(position, i % kChunks2)) = make_uint4(0, 0, 0, 0);
  });
  block_for_each(kFlat / 8, [&](int i) INLINED {
    const uint2 codes = shared<uint2>(Tile::kCode2 + i * 8);
#pragma unroll
    for (int code = 0; code < 4; ++code) {
      uint32_t pairs[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t two = (j < 2 ? codes.x : codes.y) >> (j % 2 * 16);
        pairs[j] = ((two & 255) == unsigned(code) ? 0x0000FFFFu : 0u) |
                   ((two >> 8 & 255) == unsigned(code) ? 0xFFFF0000u : 0u);
      }
      shared<uint4>(Tile::dy(position_of(i / kChunks2, code), i % kChunks2)) =
          make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  });
}

// da2 where the masks are: each thread its own.
__device__ __forceinline__ void unpool(const Half* da2) {
  block_for_each(kFlat / 8, [&](int i) INLINED {
    const uint4 d = reinterpret_cast<const uint4*>(da2)[i];
    shared<uint4>(Tile::kDa2 + i * 16) = d;
#pragma unroll
    for (int code = 0; code < 4; ++code) {
      uint4& mine = shared<uint4>(Tile::dy(position_of(i / kChunks2, code), i % kChunks2));
      const uint4 mask = mine;
      mine = make_uint4(d.x & mask.x, d.y & mask.y, d.z & mask.z, d.w & mask.w);
    }
  });
}

// A warp's part of d and of the first filter's gradient.
class FirstLayer {
 public:
  static constexpr int kPairs = kSide1 / 2;  // of rows of q

  __device__ __forceinline__ FirstLayer()
      : c_begin_(warp_index() / 6 * 16),
        chunk_begin_(warp_index() / 3 % 2 * 4),
        band_(warp_index() % 3) {}

  // Loads the filter and the winners.
  __device__ __forceinline__ void load(const uint8_t* code1) {
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
        load_a_row_major(filter_[tap][h], [&](int lane) INLINED {
          return &shared<uint4>(Tile::filter(tap * kChannels1 + c_begin_ + lane % 16,
                                             chunk_begin_ + 2 * h + lane / 16));
        });
    }
    warp_for_each([&](int lane) INLINED {
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        uint32_t shifts = 0, keeps[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int y = 2 * j + i % 2, x = 4 * band_ + lane % 4;
          const int c = c_begin_ + lane / 4 + i / 2 * 8;
          const unsigned code = code1[(y * kSide1 + x) * kChannels1 + c];
          if (code < 4) {
            shifts |= 16 * code << (8 * i);
            keeps[i / 2] |= 0xFFFFu << (i % 2 * 16);
          }
        }
        shifts_[j].own(lane) = shifts;
        keeps_[j][0].own(lane) = keeps[0];
        keeps_[j][1].own(lane) = keeps[1];
      }
    });
  }

  // Leaves the part in shared memory; returns how many values saturated.
  __device__ __forceinline__ unsigned run() {
    Sums<8> d[kPairs];
#pragma unroll
    for (int s = 0; s < 3; ++s) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int j = 0; j < kPairs - 1; ++j) {
          const FragB<8> b = load_dy(2 * j, s, h);
          mma(d[j], filter_[s][h], b);
          mma(d[j + 1], filter_[6 + s][h], b);
        }
#pragma unroll
        for (int j = 0; j < kPairs; ++j) mma(d[j], filter_[3 + s][h], load_dy(2 * j - 1, s, h));
      }
    }
    unsigned saturated = 0;
    Sums<16> sums;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      FragB<16> b[2];  // of the rows 2j and 2j + 1
      warp_for_each([&](int lane) INLINED {
        const uint32_t shifts = shifts_[j].own(lane);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const uint32_t pair =
              saturated_half2(d[j].at(lane, 2 * h), d[j].at(lane, 2 * h + 1), saturated) &
              keeps_[j][h].own(lane);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const uint64_t half = e == 0 ? pair & 0xFFFF : pair >> 16;
            const uint64_t moved = half << (shifts >> (8 * (2 * h + e)) & 255);
            b[e].set(lane, 2 * h, uint32_t(moved));
            b[e].set(lane, 2 * h + 1, uint32_t(moved >> 32));
          }
        }
      });
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        FragA a;
        load_a_row_major(a, [&](int lane) INLINED {
          return &shared<uint4>(Tile::pixels(band_, 2 * (2 * j + e) + lane / 16, lane % 16));
        });
        mma(sums, a, b[e]);
      }
    }
    warp_for_each([&](int lane) INLINED {
#pragma unroll
      for (int i = 0; i < sums.kCount; i += 2) {
        const int row = sums.row(lane, i);
        if (row < Tile::kFirstRows)
          shared<float2>(part(warp_index(), row, sums.column(lane, i))) =
              make_float2(sums.at(lane, i), sums.at(lane, i + 1));
      }
    });
    return saturated;
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

  // dY at rows y and y + 1 and columns 4 band - s and the next three, channels 16 h of the warp's.
  __device__ __forceinline__ FragB<8> load_dy(int y, int s, int h) const {
    FragB<8> b;
    load_b_col_major(b, [&](int lane) INLINED {
      const int n = lane % 8;
      return &shared<uint4>(
          Tile::dy((y + n % 2) * kSide1 + 4 * band_ + n / 2 - s, chunk_begin_ + 2 * h + lane / 8));
    });
    return b;
  }

  const int c_begin_, chunk_begin_, band_;
  FragA filter_[kTaps][2];
  WarpArray<uint32_t> shifts_[kPairs];    // 16 times the code of each sum, as bytes
  WarpArray<uint32_t> keeps_[kPairs][2];  // where there is a winner
};

// The warp's part of the second filter's gradient; returns how many values saturated.
__device__ __forceinline__ unsigned second_filter(Half* conv2_dw) {
  const int s = warp_index() % 3, c16 = warp_index() / 3 % 2, k32 = warp_index() / 6;
  Sums<16> sums[3][2];
#pragma unroll
  for (int p = 0; p < 128; p += 16) {
    FragB<16> b[2];
#pragma unroll
    for (int j = 0; j < 2; ++j)
      load_b_row_major(b[j], [&](int lane) INLINED {
        return &shared<uint4>(Tile::dy(p + lane % 16, 4 * k32 + 2 * j + lane / 16));
      });
#pragma unroll
    for (int r = 0; r < 3; ++r) {
      FragA a;
      load_a_col_major(a, [&](int lane) INLINED {
        return &shared<uint4>(
            Tile::a1(p + lane % 8 + lane / 16 * 8 + r * kSide1 + s, 2 * c16 + lane / 8 % 2));
      });
#pragma unroll
      for (int j = 0; j < 2; ++j) mma(sums[r][j], a, b[j]);
    }
  }
  unsigned saturated = 0;
#pragma unroll
  for (int r = 0; r < 3; ++r) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      Half* to = conv2_dw + conv2_dw_tile(3 * r + s, c16, 2 * k32 + j);
      warp_for_each([&](int lane) INLINED {
        uint32_t pairs[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          pairs[i] = saturated_half2(sums[r][j].at(lane, 2 * i), sums[r][j].at(lane, 2 * i + 1),
                                     saturated);
        reinterpret_cast<uint4*>(to)[lane] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
      });
    }
  }
  return saturated;
}

}  // namespace

// Grid: a block an image; block [kWarpThreads, 12].
__global__ void __launch_bounds__(Tile::kWarps * 32, 1)
    fused_conv_backward_kernel(FusedMemory memory, const uint8_t* pixels) {
  const int image = int(blockIdx.x);
  fetch(memory, pixels, image);
  __syncthreads();  // the operands are there
  FirstLayer first;
  first.load(memory.code1 + int64_t{image} * kPositions * kChannels1);
  __syncthreads();  // dY takes the filter's place
  make_masks();

  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  unpool(memory.da2 + int64_t{image} * kFlat);
  __syncthreads();  // dY is there

  unsigned saturated = first.run();
  block_for_each(kSide2 * kChannels2, [&](int i) INLINED {
    const int row = i / kChannels2, k = i % kChannels2;
    float sum = 0;
#pragma unroll
    for (int x = 0; x < kSide2; ++x)
      sum += half_to_float(shared<Half>(Tile::kDa2 + ((row * kSide2 + x) * kChannels2 + k) * 2));
    shared<float>(Tile::kBias + i * 4) = sum;
  });
  saturated += second_filter(memory.conv2_dw + int64_t{image} * kConv2FilterSize);
  add_saturated(*memory.metrics, saturated);
  __syncthreads();  // all parts are there

  float* small_sums = memory.small_sums + int64_t{image} * kSmallSums;
  block_for_each(kSmallSums, [&](int i) INLINED {
    constexpr int kFirstSums = (kTaps + 1) * kChannels1;
    float sum = 0;
    if (i < kFirstSums) {
      const int tap = i / kChannels1;
      sum = FirstLayer::total(tap < kTaps ? tap / 3 * 4 + tap % 3 : 3, i % kChannels1);
    } else {
#pragma unroll
      for (int row = 0; row < kSide2; ++row)
        sum += shared<float>(Tile::kBias + (row * kChannels2 + i - kFirstSums) * 4);
    }
    small_sums[i] = sum;
  });
}

void fused_conv_backward(const FusedMemory& memory, const uint8_t* pixels, int batch,
                         cudaStream_t stream) {
  CHECK(batch > 0 && batch <= kFusedBatch);
  launch_dependent(fused_conv_backward_kernel, dim3(unsigned(batch)),
                   dim3(kWarpThreads, Tile::kWarps), Tile::kBytes, stream, memory, pixels);
}

}  // namespace mnist::MNIST_TARGET
