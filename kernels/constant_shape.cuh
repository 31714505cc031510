// Sizes of a layer that are known at compile time. A kernel that takes its shape as a template
// parameter computes the same with both; with constants, the addresses of its loads differ by
// constants, and every bound of a loop is known.
#pragma once

#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

// A ConvShape for any batch: 3x3 filter, stride 1, and no output that needs padding.
template <int kH, int kW, int kC, int kK, int kP, int kQ>
struct ConstantConvShape {
  static_assert(kP + 2 <= kH && kQ + 2 <= kW);
  static constexpr int h = kH, w = kW, c = kC, k = kK, r = 3, s = 3, p = kP, q = kQ;
  static constexpr int stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  int n;

  static bool is(const ConvShape& shape) {
    return shape.h == h && shape.w == w && shape.c == c && shape.k == k && shape.r == r &&
           shape.s == s && shape.p == p && shape.q == q && shape.stride_h == stride_h &&
           shape.stride_w == stride_w && shape.pad_h == pad_h && shape.pad_w == pad_w;
  }
};

// The default network's convolutions.
using DefaultConv1 = ConstantConvShape<28, 28, 1, 32, 24, 24>;
using DefaultConv2 = ConstantConvShape<12, 12, 32, 64, 10, 10>;

// Whether no access of a 3x3 convolution and of the 2x2 pooling after it needs a test.
template <typename Shape>
inline constexpr bool kIsConstant = true;
template <>
inline constexpr bool kIsConstant<ConvShape> = false;

}  // namespace mnist::MNIST_TARGET
