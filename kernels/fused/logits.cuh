// The second dense layer, as head and the evaluation compute it: a warp has 16 rows.
#pragma once

#include <cuda_runtime.h>

#include "kernels/fused/fused.h"
#include "kernels/lanes/lanes.cuh"
#include "kernels/unrolled.cuh"

namespace mnist::MNIST_TARGET {

// The filter in shared memory: halves [2][128][8], the classes in groups of eight; in place p of
// the hidden units is spread(p) of its group of 32. Read by ldmatrix, eight places or classes are
// 128 bytes in a row.
class Dense2Filter {
 public:
  static constexpr int kBytes = fused::kHidden * fused::kPaddedClasses * int(sizeof(Half));

  __device__ explicit Dense2Filter(unsigned char* memory) : w_(reinterpret_cast<Half*>(memory)) {}

  // By the whole block; there after cp_async_wait() and a barrier.
  __device__ __forceinline__ void load(const Half* from) const {
    block_for_each(2 * fused::kHidden, [&](int i) INLINED {
      const int place = i % fused::kHidden, half = i / fused::kHidden;
      const int unit = place / 32 * 32 + spread(place % 32);
      cp_async_16(at(half, place), from + unit * fused::kPaddedClasses + half * 8);
    });
  }
  // B of 16 places by 16 classes, and of 16 classes by 16 places.
  __device__ __forceinline__ void load_rows(FragB<16>& b, int place) const {
    load_b_row_major(b, [&](int lane) INLINED { return at(lane / 16, place + lane % 16); });
  }
  __device__ __forceinline__ void load_columns(FragB<16>& b, int place) const {
    load_b_col_major(
        b, [&](int lane) INLINED { return at(lane / 8 % 2, place + lane % 8 + lane / 16 * 8); });
  }

 private:
  __device__ __forceinline__ Half* at(int half, int place) const {
    return w_ + (half * fused::kHidden + place) * 8;
  }

  Half* w_;
};

// What the logits begin with; the columns beyond the classes: 0.
__device__ __forceinline__ void load_bias(Sums<16>& logits, const float* bias) {
  warp_for_each([&](int lane) INLINED {
    unrolled<Sums<16>::kCount>([&](auto i) INLINED {
      const int column = logits.column(lane, i);
      logits.at(lane, i) = column < fused::kClasses ? bias[column] : 0.0f;
    });
  });
}

// h of the warp's 16 rows, from `row` on.
using HiddenRows = FragA[fused::kHidden / 32][2];
__device__ __forceinline__ void load_hidden(HiddenRows& h, const Half* from, int row) {
  unrolled<fused::kHidden / 32>([&](auto group) INLINED {
    load_a_spread(h[group], [&](int m) INLINED {
      return from + int64_t{row + m} * fused::kHidden + group * 32;
    });
  });
}

// logits += h w.
__device__ __forceinline__ void add_products(Sums<16>& logits, const HiddenRows& h,
                                             const Dense2Filter& w) {
  Sums<16> odd;  // two chains of four products are faster than one of eight
  unrolled<fused::kHidden / 32>([&](auto group) INLINED {
    FragB<16> b[2];
    unrolled<2>([&](auto s) INLINED { w.load_rows(b[s], group * 32 + s * 16); });
    mma(logits, h[group][0], b[0]);
    mma(odd, h[group][1], b[1]);
  });
  add(logits, odd);
}

}  // namespace mnist::MNIST_TARGET
