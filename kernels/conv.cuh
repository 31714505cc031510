// A convolution's matrices: the sources (gemm.cuh) that make it a matrix product without storing
// the unfolded tensors. Positions are numbered row-major, e.g. output row m = (n*P + p)*Q + q.
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
  // Rows, columns and the places in an image are counted in int.
  constexpr int64_t kLimit = 1 << 29;
  CHECK(int64_t{s.h} * s.w < kLimit / s.c && int64_t{s.h} * s.w < kLimit / s.n);
  CHECK(int64_t{s.p} * s.q < kLimit / s.k && int64_t{s.p} * s.q < kLimit / s.n);
  CHECK(int64_t{s.r} * s.s < kLimit / s.c && int64_t{s.r} * s.s < kLimit / s.k);
  CHECK(s.stride_h < kLimit && s.stride_w < kLimit / s.c);
  CHECK(int64_t{s.pad_h} + s.r < kLimit / s.w / s.c && int64_t{s.pad_w} + s.s < kLimit / s.c);
}

// [N*P*Q, R*S*C]: row (n,p,q) is the window of x that makes output (n,p,q), padding included. The
// (s,c) of one row of a window are neighbours in memory, so a column splits into r and the rest.
struct WindowSource {
  struct Row {
    int64_t at;  // the window's first element in x, if that is not in the padding
    int h;       // the window's first row
    int offset;  // where the window begins in its rows of W*C floats
  };
  struct Col {
    int at;  // from the window's first element
    int r;
    int rest;
    int count;  // columns from here on
  };

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
    const int r = window_floats.quotient(c), rest = c - r * window_floats.value;
    constexpr int kOutside = 1 << 30;
    return {r * row_floats + rest, c < cols ? r : kOutside, rest, cols - c};
  }

  __device__ __forceinline__ float4 load4(const Row& row, const Col& col) const {
    if (aligned) {
      if (!inside(row, col)) return make_float4(0, 0, 0, 0);
      return *reinterpret_cast<const float4*>(x + row.at + col.at);
    }
    float v[4];
    Col next = col;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      v[j] = j < col.count && inside(row, next) ? x[row.at + next.at] : 0.0f;
      next.at += 1;
      if (++next.rest == window_floats.value) {
        next.rest = 0;
        next.at += row_floats - window_floats.value;
        next.r += 1;
      }
    }
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ bool inside(const Row& row, const Col& col) const {
    return unsigned(row.h + col.r) < unsigned(h) &&
           unsigned(row.offset + col.rest) < unsigned(row_floats);
  }

  const float* x;
  int rows, cols, h, row_floats, stride_h, pad_h, stride_floats, pad_floats;
  Divisor positions, q, window_floats;
  bool aligned;
};

// [N*H*W, R*S*K]: row (n,h,w), column (r,s,k) is the dy of the output whose window holds (h,w) at
// its place (r,s), zero if there is none.
struct OutputGradientSource {
  struct Row {
    const float* image;
    int h, w;  // in the padded input
  };
  struct Col {
    int r, s, channel, count;
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
    if (m >= rows) return {dy, -1, -1};  // outside, whatever the column
    const int n = positions.quotient(m), position = m - n * positions.value;
    const int h_index = w.quotient(position), w_index = position - h_index * w.value;
    return {dy + size_t(n) * p * q * k.value, h_index + pad_h, w_index + pad_w};
  }

  __device__ Col col(int c) const {
    const int position = k.quotient(c), r = s.quotient(position);
    return {r, position - r * s.value, c - position * k.value, cols - c};
  }

  __device__ __forceinline__ float4 load4(const Row& row, const Col& col) const {
    if (aligned) {
      const float* from = find(row, col);
      return from == nullptr ? make_float4(0, 0, 0, 0) : *reinterpret_cast<const float4*>(from);
    }
    float v[4];
    Col next = col;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* from = find(row, next);
      v[j] = from == nullptr ? 0.0f : *from;
      next.count -= 1;
      if (++next.channel == k.value) {
        next.channel = 0;
        if (++next.s == s.value) {
          next.s = 0;
          next.r += 1;
        }
      }
    }
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ __forceinline__ const float* find(const Row& row, const Col& col) const {
    const int top = row.h - col.r, left = row.w - col.s;
    if (top < 0 || left < 0 || col.count <= 0) return nullptr;
    const int p_index = stride_h.quotient(top), q_index = stride_w.quotient(left);
    if (p_index >= p || q_index >= q || p_index * stride_h.value != top ||
        q_index * stride_w.value != left)
      return nullptr;
    return row.image + (p_index * q + q_index) * k.value + col.channel;
  }

  const float* dy;
  int rows, cols, p, q, pad_h, pad_w;
  Divisor positions, w, k, s, stride_h, stride_w;
  bool aligned;
};

// [C, R*S*K]: the filter with input and output channels exchanged.
struct FilterSource {
  using Row = int;  // the input channel
  struct Col {
    int position, k, count;
  };

  FilterSource(const float* filter, const ConvShape& shape)
      : w(filter),
        cols(shape.r * shape.s * shape.k),
        c(shape.c),
        k(shape.k),
        aligned(shape.k % 4 == 0) {}

  __device__ Row row(int channel) const { return channel; }

  __device__ Col col(int index) const {
    const int position = k.quotient(index);
    return {position, index - position * k.value, cols - index};
  }

  __device__ __forceinline__ float4 load4(Row channel, const Col& col) const {
    if (channel >= c || col.count <= 0) return make_float4(0, 0, 0, 0);
    if (aligned) return *reinterpret_cast<const float4*>(find(channel, col));
    float v[4];
    Col next = col;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      v[j] = next.count > 0 ? *find(channel, next) : 0.0f;
      next.count -= 1;
      if (++next.k == k.value) {
        next.k = 0;
        next.position += 1;
      }
    }
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ const float* find(Row channel, const Col& col) const {
    return w + (size_t(col.position) * c + channel) * k.value + col.k;
  }

  const float* w;
  int cols, c;
  Divisor k;
  bool aligned;
};

}  // namespace mnist::MNIST_TARGET
