// The input under a 2x2 patch of a convolution's outputs, as a warp walks along a row of patches.
// Neighbouring patches are two columns apart, so a patch keeps all but two columns of the last one:
//
//   the 4x4 input of a 3x3 filter     output (a,b) multiplies, with the     one step to the right
//                                     filter's tap (r,s), pixel (a+r,b+s)
//     s: 0 1 2 3                        a,b = 0,0     a,b = 1,1
//   r 0  . . . .                          # # # .       . . . .                  - - o o + +
//     1  . . . .                          # # # .       . # # #                  - - o o + +
//     2  . . . .                          # # # .       . # # #                  - - o o + +
//     3  . . . .                          . . . .       . # # #                  - - o o + +
//                                                                  - dropped, o kept, + loaded
#pragma once

#include "kernels/common.cuh"

namespace mnist::MNIST_TARGET {

// kRows x kCols values of type T in registers. load(h, w) reads the input at row h, column w.
template <typename T, int kRows, int kCols>
struct SlidingPatch {
  T at[kRows][kCols];

  // Loads what the first patch, at (top, left), shares with the one that would be before it.
  template <typename Load>
  __device__ __forceinline__ void begin(int top, int left, const Load& load) {
    unrolled<kRows>([&](auto r) INLINED {
      unrolled<kCols - 2>([&](auto s) INLINED { at[r][s + 2] = load(top + r, left + s); });
    });
  }

  // Moves on to the patch whose first element is (top, left), two columns after the present one.
  template <typename Load>
  __device__ __forceinline__ void move_to(int top, int left, const Load& load) {
    unrolled<kRows>([&](auto r) INLINED {
      unrolled<kCols - 2>([&](auto s) INLINED { at[r][s] = at[r][s + 2]; });
      at[r][kCols - 2] = load(top + r, left + kCols - 2);
      at[r][kCols - 1] = load(top + r, left + kCols - 1);
    });
  }
};

}  // namespace mnist::MNIST_TARGET
