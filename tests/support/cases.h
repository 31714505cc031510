// The shapes that the kernels' tests run: those of the default model, and the edges where kernels
// go wrong: 1, one less and one more than a tile, two tiles and one, unequal axes. The benchmark
// has its own (host/engine/bench): it times shapes that people train, not edges.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/shapes.h"
#include "tests/support/slow_device.h"

namespace mnist {

// ---- shapes from layer parameters ---------------------------------------------------------------
struct Window {
  int h, w;
};

struct Axis {
  int size, pad;
};

// Keras' output size and leading padding along one axis.
inline Axis valid_axis(int size, int window, int stride) {
  return {(size - window) / stride + 1, 0};
}
inline Axis same_axis(int size, int window, int stride) {
  const int out = (size + stride - 1) / stride;
  return {out, std::max((out - 1) * stride + window - size, 0) / 2};
}

inline ConvShape conv_valid(int n, int h, int w, int c, int k, Window filter,
                            Window stride = {1, 1}) {
  const Axis p = valid_axis(h, filter.h, stride.h), q = valid_axis(w, filter.w, stride.w);
  return {n, h, w, c, k, filter.h, filter.w, stride.h, stride.w, p.pad, q.pad, p.size, q.size};
}
inline ConvShape conv_same(int n, int h, int w, int c, int k, Window filter,
                           Window stride = {1, 1}) {
  const Axis p = same_axis(h, filter.h, stride.h), q = same_axis(w, filter.w, stride.w);
  return {n, h, w, c, k, filter.h, filter.w, stride.h, stride.w, p.pad, q.pad, p.size, q.size};
}
inline PoolShape pool_valid(int n, int h, int w, int c, Window window, Window stride) {
  const Axis p = valid_axis(h, window.h, stride.h), q = valid_axis(w, window.w, stride.w);
  return {n, h, w, c, window.h, window.w, stride.h, stride.w, p.pad, q.pad, p.size, q.size};
}
inline PoolShape pool_same(int n, int h, int w, int c, Window window, Window stride) {
  const Axis p = same_axis(h, window.h, stride.h), q = same_axis(w, window.w, stride.w);
  return {n, h, w, c, window.h, window.w, stride.h, stride.w, p.pad, q.pad, p.size, q.size};
}

// ---- names --------------------------------------------------------------------------------------
inline std::string by(int a, int b) {
  return std::to_string(a) + "x" + std::to_string(b);
}

inline std::string to_string(const ConvShape& s) {
  return std::to_string(s.n) + "x" + by(s.h, s.w) + "x" + std::to_string(s.c) + " to " +
         by(s.p, s.q) + "x" + std::to_string(s.k) + ", filter " + by(s.r, s.s) + ", stride " +
         by(s.stride_h, s.stride_w) + ", pad " + by(s.pad_h, s.pad_w);
}
inline std::string to_string(const PoolShape& s) {
  return std::to_string(s.n) + "x" + by(s.h, s.w) + "x" + std::to_string(s.c) + " to " +
         by(s.p, s.q) + ", window " + by(s.window_h, s.window_w) + ", stride " +
         by(s.stride_h, s.stride_w) + ", pad " + by(s.pad_h, s.pad_w);
}
inline std::string to_string(const DenseShape& s) {
  return by(s.n, s.in) + " to " + by(s.n, s.out);
}

// ---- the default model --------------------------------------------------------------------------
inline std::vector<ConvShape> model_conv_shapes(int batch) {
  return {conv_valid(batch, 28, 28, 1, 32, {3, 3}), conv_valid(batch, 13, 13, 32, 64, {3, 3})};
}
inline std::vector<PoolShape> model_pool_shapes(int batch) {
  return {pool_valid(batch, 26, 26, 32, {2, 2}, {2, 2}),
          pool_valid(batch, 11, 11, 64, {2, 2}, {2, 2})};
}
inline std::vector<DenseShape> model_dense_shapes(int batch) {
  return {{batch, 1600, 128}, {batch, 128, 10}};
}

// ---- edges --------------------------------------------------------------------------------------
// Matrix products [m,k] [k,n] around tiles of 16, 32, 64 and 128. The backward passes exchange the
// roles of m, n and k, so each takes every size.
struct GemmSize {
  int m, n, k;
};

inline std::vector<GemmSize> edge_gemm_sizes() {
  std::vector<GemmSize> sizes = {{1, 1, 1},     {2, 3, 1},     {1, 5, 7},     {15, 15, 15},
                                 {16, 16, 16},  {17, 17, 17},  {63, 31, 15},  {64, 32, 16},
                                 {65, 33, 17},  {127, 63, 31}, {128, 64, 32}, {129, 65, 33},
                                 {33, 129, 65}, {65, 33, 129}, {257, 65, 33}, {33, 65, 257}};
  for (int edge : {1, 4, 31, 33, 64, 128}) {
    sizes.push_back({edge, 37, 22});
    sizes.push_back({22, edge, 37});
    sizes.push_back({37, 22, edge});
  }
  return sizes;
}

// The same, so large that kernels take the tiles they have for a full GPU; for each pass the two
// sizes of its result are those that are large.
inline std::vector<GemmSize> large_gemm_sizes() {
  if (slow_device()) return {};
  return {{1537, 65, 17},  {4161, 65, 17},  {4161, 17, 65}, {17, 65, 4161}, {16513, 31, 17},
          {16513, 17, 31}, {17, 31, 16513}, {16577, 4, 32}, {4161, 65, 65}};
}

inline std::vector<ConvShape> edge_conv_shapes() {
  std::vector<ConvShape> shapes = {
      conv_valid(1, 1, 1, 1, 1, {1, 1}),
      conv_valid(1, 3, 3, 1, 1, {3, 3}),             // a single window
      conv_valid(1, 9, 7, 3, 5, {3, 2}),             // everything unequal
      conv_valid(2, 8, 11, 4, 6, {5, 3}),            //
      conv_valid(2, 8, 11, 5, 7, {1, 1}, {2, 3}),    // stride above filter: unused inputs
      conv_valid(3, 10, 9, 3, 8, {3, 4}, {2, 3}),    // unused last rows and columns
      conv_valid(2, 12, 6, 33, 31, {2, 3}, {3, 1}),  //
      conv_valid(1, 7, 9, 64, 33, {3, 3}),           //
      conv_valid(5, 6, 5, 32, 65, {3, 3}),           //
      conv_valid(9, 26, 26, 1, 33, {3, 3}),          // a long sum in the filter's gradient
      conv_same(1, 5, 5, 1, 4, {3, 3}),              //
      conv_same(2, 7, 6, 3, 5, {2, 4}),              // one row more below than above
      conv_same(2, 6, 9, 5, 32, {5, 3}),             //
      conv_same(1, 8, 7, 4, 9, {3, 3}, {2, 2}),  // padding that depends on the parity of the size
      conv_same(3, 9, 8, 4, 3, {4, 5}, {3, 2}),  //
      conv_same(1, 2, 3, 2, 3, {5, 7}),          // filter larger than the image
      conv_same(2, 5, 4, 33, 34, {3, 3}),        //
      {2, 6, 5, 3, 4, 3, 3, 1, 1, 2, 1, 8, 4},   // padding chosen by hand
      conv_valid(2, 7, 9, 1, 1, {1, 1}),         // one channel from here on
      conv_valid(3, 9, 12, 1, 4, {3, 3}),        //
      conv_valid(1, 11, 8, 1, 8, {5, 5}),        //
      conv_same(2, 10, 7, 1, 9, {5, 3}),         //
      conv_same(1, 28, 28, 1, 31, {3, 3}),       //
      conv_same(2, 13, 17, 1, 33, {3, 3}),       //
      conv_same(1, 19, 35, 1, 64, {5, 5}),       //
      conv_valid(2, 12, 10, 1, 65, {1, 1}),      //
      conv_valid(2, 17, 14, 1, 130, {3, 3}),     //
      conv_valid(2, 15, 16, 1, 32, {3, 3}, {2, 2}),
      conv_same(3, 14, 13, 1, 5, {5, 5}, {2, 3}),
      conv_valid(1, 9, 40, 1, 34, {1, 1}, {3, 2}),
      {1, 5, 4, 1, 36, 5, 3, 1, 1, 4, 2, 9, 6},  // every window reaches into the padding
      conv_valid(1, 641, 479, 1, 3, {1, 1}),     // very long sums in the gradients by filter, bias
      conv_same(11, 20, 20, 5, 65, {3, 3}),      // large tiles from here on
      conv_same(11, 20, 20, 65, 5, {3, 3}),
      conv_same(52, 18, 18, 6, 30, {3, 2}),
      conv_valid(10, 44, 45, 9, 30, {3, 3}),
  };
  for (const GemmSize& g : edge_gemm_sizes())
    shapes.push_back(conv_valid(1, 1, g.m, g.k, g.n, {1, 1}));
  for (const GemmSize& g : large_gemm_sizes())
    shapes.push_back(conv_valid(1, 1, g.m, g.k, g.n, {1, 1}));
  return shapes;
}

// The good shape with one impossible field each.
inline std::vector<ConvShape> impossible_conv_shapes(const ConvShape& good) {
  struct Field {
    int ConvShape::*member;
    int value;
  };
  std::vector<ConvShape> shapes;
  for (const Field& field :
       {Field{&ConvShape::n, 0}, Field{&ConvShape::h, -1}, Field{&ConvShape::w, 0},
        Field{&ConvShape::c, 0}, Field{&ConvShape::k, -2}, Field{&ConvShape::r, 0},
        Field{&ConvShape::s, 0}, Field{&ConvShape::stride_h, 0}, Field{&ConvShape::stride_w, -1},
        Field{&ConvShape::pad_h, -1}, Field{&ConvShape::pad_w, -1}, Field{&ConvShape::p, 0},
        Field{&ConvShape::q, 0}}) {
    shapes.push_back(good);
    shapes.back().*field.member = field.value;
  }
  return shapes;
}

// Convolutions of 3x3 followed by 2x2 pooling, sizes of the convolution's output; `pad` as in
// ConvShape, `unread` rows and columns come after the last window.
inline ConvShape conv_pool(int n, int p, int q, int c, int k, Window pad = {0, 0},
                           Window unread = {0, 0}) {
  return {n, p + 2 - pad.h + unread.h, q + 2 - pad.w + unread.w, c, k, 3, 3, 1, 1, pad.h, pad.w, p,
          q};
}
// The same padding on all sides.
inline ConvShape conv_pool_same(int n, int p, int q, int c, int k) {
  return {n, p, q, c, k, 3, 3, 1, 1, 1, 1, p, q};
}

// The default model's convolutions without the outputs that pooling drops, and without what those
// drop in turn: of 28x28 pixels the first 26x26 are read.
inline std::vector<ConvShape> model_conv_pool_shapes(int batch) {
  return {conv_pool(batch, 24, 24, 1, 32, {0, 0}, {2, 2}), conv_pool(batch, 10, 10, 32, 64)};
}

// Every combination of axes occurs in a few shapes alone; each value of an axis in several.
inline std::vector<ConvShape> edge_conv_pool_shapes() {
  return {
      conv_pool(1, 2, 2, 1, 1),  // a single window of the pooling
      conv_pool(1, 2, 4, 2, 3),
      conv_pool(2, 4, 2, 3, 4),
      conv_pool(3, 4, 6, 4, 8),
      conv_pool(5, 6, 4, 5, 9),
      conv_pool(1, 6, 10, 31, 31),
      conv_pool(2, 10, 6, 32, 32),
      conv_pool(1, 12, 10, 33, 33),
      conv_pool(2, 4, 4, 64, 64),
      conv_pool(1, 2, 6, 65, 65),
      conv_pool(3, 2, 2, 65, 130),
      conv_pool(1, 12, 24, 1, 33),
      conv_pool(2, 24, 12, 1, 64),
      conv_pool(3, 26, 26, 1, 32),
      conv_pool(1, 34, 26, 1, 65),
      conv_pool(1, 34, 34, 3, 4),
      conv_pool(2, 10, 34, 2, 31),
      conv_pool(1, 26, 2, 4, 130),
      conv_pool(5, 10, 10, 32, 1),
      conv_pool(2, 12, 12, 5, 64),
      conv_pool(5, 2, 2, 33, 32),
      conv_pool(1, 10, 12, 64, 33),
      conv_pool(2, 6, 6, 31, 65),
      conv_pool(2, 12, 14, 32, 64),  // several tiles of 5x5 windows, whole groups of channels
      conv_pool(131, 2, 2, 8, 4),    // more images than slices
      conv_pool(130, 4, 2, 1, 2),
      conv_pool_same(1, 2, 2, 1, 4),
      conv_pool_same(2, 4, 6, 3, 3),
      conv_pool_same(3, 6, 2, 5, 1),
      conv_pool_same(1, 12, 12, 32, 33),
      conv_pool_same(2, 10, 4, 33, 8),
      conv_pool_same(1, 24, 34, 1, 9),
      conv_pool_same(5, 4, 4, 64, 31),
      conv_pool_same(1, 28, 28, 4, 32),
      conv_pool_same(1, 20, 12, 64, 64),
      conv_pool(1, 4, 6, 2, 4, {0, 0}, {1, 0}),   // a row that no window reads
      conv_pool(2, 6, 4, 4, 32, {0, 0}, {0, 1}),  //
      conv_pool(3, 2, 4, 33, 9, {0, 0}, {3, 2}),  //
      conv_pool(1, 10, 10, 32, 64, {0, 0}, {1, 1}),
      conv_pool(3, 10, 10, 32, 64, {0, 0}, {14, 14}),
      conv_pool(2, 6, 10, 3, 8, {1, 0}, {2, 1}),    // padding chosen by hand
      conv_pool(1, 4, 4, 31, 33, {0, 2}, {0, 3}),   //
      conv_pool(2, 8, 6, 1, 32, {2, 1}, {-2, -1}),  //
      conv_pool(1, 6, 6, 2, 65, {3, 4}, {-1, -1}),  // outputs that see padding alone
      conv_pool(1, 4, 2, 5, 4, {1, 0}, {-2, -1}),   // image smaller than the filter
  };
}

// Other filters and strides, which the operations with pooling refuse.
inline std::vector<ConvShape> other_conv_pool_shapes() {
  return {
      conv_valid(2, 6, 8, 1, 33, {1, 1}),          conv_valid(1, 8, 10, 1, 8, {5, 5}),
      conv_same(2, 6, 12, 1, 31, {5, 3}),          conv_valid(2, 9, 13, 1, 32, {3, 3}, {2, 2}),
      conv_same(1, 8, 12, 1, 65, {5, 5}, {2, 3}),  conv_valid(3, 4, 6, 5, 7, {1, 1}),
      conv_valid(2, 8, 9, 32, 33, {5, 2}),         conv_same(1, 6, 10, 4, 64, {2, 4}),
      conv_valid(2, 12, 9, 3, 34, {3, 3}, {3, 2}),
  };
}

inline std::vector<PoolShape> edge_pool_shapes() {
  return {
      pool_valid(1, 1, 1, 1, {1, 1}, {1, 1}),     pool_valid(1, 2, 2, 1, {2, 2}, {2, 2}),
      pool_valid(3, 7, 5, 3, {2, 2}, {2, 2}),      // an unused last row and column
      pool_valid(2, 9, 8, 5, {3, 2}, {3, 2}),      //
      pool_valid(2, 9, 8, 4, {3, 3}, {2, 2}),      // overlapping
      pool_valid(1, 8, 11, 33, {3, 2}, {1, 1}),    //
      pool_valid(2, 9, 10, 7, {2, 2}, {3, 4}),     // gaps between the windows
      pool_valid(1, 16, 17, 2, {16, 16}, {1, 1}),  // the largest window: 256 positions
      pool_valid(5, 12, 12, 64, {2, 2}, {2, 2}),   //
      pool_same(2, 7, 5, 3, {2, 2}, {2, 2}),       // padding on the right and below only
      pool_same(2, 7, 6, 4, {3, 3}, {2, 2}),       //
      pool_same(1, 5, 9, 32, {3, 2}, {1, 1}),      //
      pool_same(1, 4, 3, 5, {5, 4}, {2, 3}),       // window larger than the image
  };
}

inline std::vector<DenseShape> edge_dense_shapes() {
  std::vector<DenseShape> shapes;
  for (const GemmSize& g : edge_gemm_sizes()) shapes.push_back({g.m, g.k, g.n});
  for (const GemmSize& g : large_gemm_sizes()) shapes.push_back({g.m, g.k, g.n});
  return shapes;
}

}  // namespace mnist
