// A convolution's matrices: the sources (gemm.cuh) that make it a matrix product without storing
// the unfolded tensors. Positions are numbered row-major, e.g. output row m = (n*P + p)*Q + q.
//
//   pass      a                              b                          out
//   forward   WindowSource [N*P*Q, R*S*C]    w [R*S*C, K]               y [N*P*Q, K]
//   filter    WindowSource, transposed       dy [N*P*Q, K]              dw [R*S*C, K]
//   data      OutputGradientSource           FilterSource, transposed   dx [N*H*W, C]
//             [N*H*W, R*S*K]                 [C, R*S*K]
#pragma once

#include "kernels/check.h"
#include "kernels/common.cuh"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

inline void check_shape(const ConvShape& s) {
  CHECK(s.n > 0 && s.h > 0 && s.w > 0 && s.c > 0);
  CHECK(s.k > 0 && s.r > 0 && s.s > 0 && s.p > 0 && s.q > 0);
  CHECK(s.stride_h > 0 && s.stride_w > 0 && s.pad_h >= 0 && s.pad_w >= 0);
  // Every window begins within the input or the padding before it.
  CHECK(int64_t{s.p - 1} * s.stride_h < int64_t{s.h} + s.pad_h);
  CHECK(int64_t{s.q - 1} * s.stride_w < int64_t{s.w} + s.pad_w);
  // Rows, columns and offsets in an image are counted in int.
  constexpr int64_t kLimit = 1 << 29;
  CHECK(int64_t{s.h} * s.w < kLimit / s.c && int64_t{s.h} * s.w < kLimit / s.n);
  CHECK(int64_t{s.p} * s.q < kLimit / s.k && int64_t{s.p} * s.q < kLimit / s.n);
  CHECK(int64_t{s.r} * s.s < kLimit / s.c && int64_t{s.r} * s.s < kLimit / s.k);
  CHECK(s.stride_h < kLimit / s.stride_w && s.stride_w < kLimit / s.c);
  CHECK(int64_t{s.pad_h} + s.r < kLimit / s.w / s.c && int64_t{s.pad_w} + s.s < kLimit / s.c);
}

// [N*P*Q, R*S*C]: row (n,p,q) is the window of x that makes output (n,p,q), padding included. The
// (s,c) of one row of a window are neighbours in memory, so a column splits into r and the offset
// s*C + c. A 3x3 window of an image with C channels:
//
//   memory, a row of W*C floats each     row(m).at = where the window begins, row(m).offset = how
//     . . [- - -] . . .   r = 0          far that is from the beginning of its row
//     . . [- - -] . . .   r = 1          col(c).at = r * W*C + col(c).offset
//     . . [- - -] . . .   r = 2          element (m,c) is x[row(m).at + col(c).at]
struct WindowSource {
  struct Row {
    int64_t at;  // of the window's first element in x; meaningless where that is in the padding
    int h;       // the window's first row; INT32_MIN: no such window
    int offset;  // of its first column, in floats; negative in the padding
  };
  struct Col {
    int at;  // from the window's first element
    int r;
    int offset;  // s*C + c
    int count;   // columns from here on
  };
  __device__ int index(const Col& col) const { return cols - col.count; }

  WindowSource(const float* input, const ConvShape& shape)
      : x(input),
        rows(shape.n * shape.p * shape.q),
        cols(shape.r * shape.s * shape.c),
        h(shape.h),
        row_floats(shape.w * shape.c),
        stride_h(shape.stride_h),
        pad_h(shape.pad_h),
        stride_floats(shape.stride_w * shape.c),
        pad_floats(shape.pad_w * shape.c),
        positions(shape.p * shape.q),
        q(shape.q),
        window_floats(shape.s * shape.c),
        aligned(shape.c % 4 == 0) {}

  __device__ Row row(int m) const {
    if (m >= rows) return {0, INT32_MIN, 0};  // outside, whatever the column
    const int n = positions.quotient(m), position = m - n * positions.value;
    const int p_index = q.quotient(position), q_index = position - p_index * q.value;
    const int top = p_index * stride_h - pad_h, left = q_index * stride_floats - pad_floats;
    return {(int64_t{n} * h + top) * row_floats + left, top, left};
  }

  __device__ Col col(int c) const {
    const int r = window_floats.quotient(c), offset = c - r * window_floats.value;
    constexpr int kOutside = 1 << 30;
    return {r * row_floats + offset, c < cols ? r : kOutside, offset, cols - c};
  }

  template <bool kAligned>
  __device__ __forceinline__ float4 load4(const Row& row, const Col& col) const {
    if constexpr (kAligned) {
      if (!inside(row, col)) return make_float4(0, 0, 0, 0);
      return *reinterpret_cast<const float4*>(x + (row.at + col.at));
    } else {
      float v[4];
      Col next = col;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[j] = j < col.count && inside(row, next) ? x[row.at + next.at] : 0.0f;
        next.at += 1;
        if (++next.offset == window_floats.value) {
          next.offset = 0;
          next.at += row_floats - window_floats.value;
          next.r += 1;
        }
      }
      return make_float4(v[0], v[1], v[2], v[3]);
    }
  }

  __device__ bool inside(const Row& row, const Col& col) const {
    return unsigned(row.h + col.r) < unsigned(h) &&
           unsigned(row.offset + col.offset) < unsigned(row_floats);
  }

  const float* x;
  int rows, cols, h, row_floats, stride_h, pad_h, stride_floats, pad_floats;
  Divisor positions, q, window_floats;
  bool aligned;
};

// [N*H*W, R*S*K]: row (n,h,w), column (r,s,k) is the dy of the output whose window has (h,w) under
// its tap (r,s), zero if there is none. In the padded input, that window begins at row h + pad_h -
// r. It exists if that is a multiple of stride_h, that is if h + pad_h and r have the same
// remainder (the phase); p is then the difference of their quotients. Columns alike.
struct OutputGradientSource {
  struct Row {
    int64_t at;  // of output (n,p,q,0) in dy
    int p, q;    // quotients
    int phase;   // both remainders combined; -1: no such row
  };
  struct Col {
    int at;  // to be added to the row's
    int p, q;
    int phase;  // -2: no such column
    int index;
  };

  OutputGradientSource(const float* gradient, const ConvShape& shape)
      : dy(gradient),
        rows(shape.n * shape.h * shape.w),
        cols(shape.r * shape.s * shape.k),
        p(shape.p),
        q(shape.q),
        pad_h(shape.pad_h),
        pad_w(shape.pad_w),
        positions(shape.h * shape.w),
        w(shape.w),
        k(shape.k),
        s(shape.s),
        stride_h(shape.stride_h),
        stride_w(shape.stride_w),
        aligned(shape.k % 4 == 0) {}

  __device__ Row row(int m) const {
    if (m >= rows) return {0, 0, 0, -1};
    const int n = positions.quotient(m), position = m - n * positions.value;
    const int h_index = w.quotient(position), w_index = position - h_index * w.value;
    const int top = h_index + pad_h, left = w_index + pad_w;
    const int p_index = stride_h.quotient(top), q_index = stride_w.quotient(left);
    return {((int64_t{n} * p + p_index) * q + q_index) * k.value, p_index, q_index,
            phase(top - p_index * stride_h.value, left - q_index * stride_w.value)};
  }

  __device__ Col col(int c) const {
    if (c >= cols) return {0, 0, 0, -2, c};
    const int position = k.quotient(c), r = s.quotient(position), s_index = position - r * s.value;
    const int p_index = stride_h.quotient(r), q_index = stride_w.quotient(s_index);
    return {c - position * k.value - (p_index * q + q_index) * k.value, p_index, q_index,
            phase(r - p_index * stride_h.value, s_index - q_index * stride_w.value), c};
  }

  template <bool kAligned>
  __device__ __forceinline__ float4 load4(const Row& row, const Col& first) const {
    if constexpr (kAligned) {
      if (!inside(row, first)) return make_float4(0, 0, 0, 0);
      return *reinterpret_cast<const float4*>(dy + (row.at + first.at));
    } else {
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const Col next = col(first.index + j);
        v[j] = inside(row, next) ? dy[row.at + next.at] : 0.0f;
      }
      return make_float4(v[0], v[1], v[2], v[3]);
    }
  }

  __device__ int phase(int remainder_h, int remainder_w) const {
    return remainder_h * stride_w.value + remainder_w;
  }
  __device__ bool inside(const Row& row, const Col& col) const {
    return row.phase == col.phase && unsigned(row.p - col.p) < unsigned(p) &&
           unsigned(row.q - col.q) < unsigned(q);
  }

  const float* dy;
  int rows, cols, p, q, pad_h, pad_w;
  Divisor positions, w, k, s, stride_h, stride_w;
  bool aligned;
};

// [C, R*S*K]: the filter with input and output channels exchanged.
struct FilterSource {
  using Row = int;  // the input channel, negative beyond the last
  struct Col {
    int64_t at;
    int index;
  };

  FilterSource(const float* filter, const ConvShape& shape)
      : w(filter),
        cols(shape.r * shape.s * shape.k),
        c(shape.c),
        k(shape.k),
        aligned(shape.k % 4 == 0) {}

  __device__ Row row(int channel) const { return channel < c ? channel : -1; }

  __device__ Col col(int index) const {
    const int position = k.quotient(index);
    return {int64_t{position} * c * k.value + (index - position * k.value), index};
  }

  template <bool kAligned>
  __device__ __forceinline__ float4 load4(Row channel, const Col& first) const {
    if (channel < 0 || first.index >= cols) return make_float4(0, 0, 0, 0);
    const int64_t at = int64_t{channel} * k.value;
    if constexpr (kAligned) {
      return *reinterpret_cast<const float4*>(w + at + first.at);
    } else {
      float v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const Col next = col(first.index + j);
        v[j] = next.index < cols ? w[at + next.at] : 0.0f;
      }
      return make_float4(v[0], v[1], v[2], v[3]);
    }
  }

  const float* w;
  int cols, c;
  Divisor k;
  bool aligned;
};

}  // namespace mnist::MNIST_TARGET
