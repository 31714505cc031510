// A convolution's matrices: the sources (gemm.cuh) that make it a matrix product without storing the
// unfolded tensors. Positions are numbered row-major, e.g. output row m = (n*P + p)*Q + q.
#pragma once

#include "kernels/check.h"
#include "kernels/common.cuh"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

inline void check_shape(const ConvShape& s) {
  CHECK(s.n > 0 && s.h > 0 && s.w > 0 && s.c > 0);
  CHECK(s.k > 0 && s.r > 0 && s.s > 0 && s.p > 0 && s.q > 0);
  CHECK(s.stride_h > 0 && s.stride_w > 0 && s.pad_h >= 0 && s.pad_w >= 0);
  // Every window begins within the input or the padding before it; so int is enough for positions.
  CHECK(int64_t{s.p - 1} * s.stride_h < int64_t{s.h} + s.pad_h);
  CHECK(int64_t{s.q - 1} * s.stride_w < int64_t{s.w} + s.pad_w);
  constexpr int64_t kLimit = 1 << 30;  // rows, columns and an image's elements are counted in int
  CHECK(int64_t{s.n} * s.h * s.w < kLimit && int64_t{s.n} * s.p * s.q < kLimit);
  CHECK(int64_t{s.h} * s.w < kLimit / s.c && int64_t{s.p} * s.q < kLimit / s.k);
  CHECK(int64_t{s.r} * s.s < kLimit / s.c && int64_t{s.r} * s.s < kLimit / s.k);
  CHECK(s.pad_h < kLimit / 2 && s.pad_w < kLimit / 2 / s.c);
}

// [N*P*Q, R*S*C]: row (n,p,q) is the window of x that makes output (n,p,q), padding included. The
// (s,c) of one window row are neighbours in memory, so a column splits into r and the rest.
struct WindowSource {
  struct Row {
    const float* image;
    int h;       // the window's first row, may be in the padding
    int offset;  // where the window begins in its rows of W*C floats, may be negative
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
    if (m >= rows) return {x, -h - cols, 0};
    const int n = positions.quotient(m), position = m - n * positions.value;
    const int p_index = q.quotient(position), q_index = position - p_index * q.value;
    return {x + size_t(n) * h * row_floats, p_index * stride_h - pad_h,
            q_index * stride_floats - pad_floats};
  }

  __device__ float4 load4(const Row& row, int col) const {
    if (col >= cols) return make_float4(0, 0, 0, 0);
    int r = window_floats.quotient(col), rest = col - r * window_floats.value;
    if (aligned) {
      if (!inside(row, r, rest)) return make_float4(0, 0, 0, 0);
      return *reinterpret_cast<const float4*>(row.image + (row.h + r) * row_floats + row.offset +
                                              rest);
    }
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      v[j] = col + j < cols && inside(row, r, rest)
                 ? row.image[(row.h + r) * row_floats + row.offset + rest]
                 : 0.0f;
      if (++rest == window_floats.value) {
        rest = 0;
        ++r;
      }
    }
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ bool inside(const Row& row, int r, int rest) const {
    return unsigned(row.h + r) < unsigned(h) && unsigned(row.offset + rest) < unsigned(row_floats);
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
    if (m >= rows) return {dy, -1, -1};
    const int n = positions.quotient(m), position = m - n * positions.value;
    const int h_index = w.quotient(position), w_index = position - h_index * w.value;
    return {dy + size_t(n) * p * q * k.value, h_index + pad_h, w_index + pad_w};
  }

  __device__ float4 load4(const Row& row, int col) const {
    if (aligned) {
      const float* from = find(row, col);
      return from == nullptr ? make_float4(0, 0, 0, 0) : *reinterpret_cast<const float4*>(from);
    }
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* from = find(row, col + j);
      v[j] = from == nullptr ? 0.0f : *from;
    }
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ const float* find(const Row& row, int col) const {
    if (col >= cols) return nullptr;
    const int position = k.quotient(col), channel = col - position * k.value;
    const int r_index = s.quotient(position), s_index = position - r_index * s.value;
    const int top = row.h - r_index, left = row.w - s_index;
    if (top < 0 || left < 0) return nullptr;
    const int p_index = stride_h.quotient(top), q_index = stride_w.quotient(left);
    if (p_index >= p || q_index >= q || p_index * stride_h.value != top ||
        q_index * stride_w.value != left)
      return nullptr;
    return row.image + (p_index * q + q_index) * k.value + channel;
  }

  const float* dy;
  int rows, cols, p, q, pad_h, pad_w;
  Divisor positions, w, k, s, stride_h, stride_w;
  bool aligned;
};

// [C, R*S*K]: the filter with input and output channels exchanged.
struct FilterSource {
  using Row = int;  // the input channel

  FilterSource(const float* filter, const ConvShape& shape)
      : w(filter),
        cols(shape.r * shape.s * shape.k),
        c(shape.c),
        k(shape.k),
        aligned(shape.k % 4 == 0) {}

  __device__ Row row(int channel) const { return channel; }

  __device__ float4 load4(Row channel, int col) const {
    if (channel >= c || col >= cols) return make_float4(0, 0, 0, 0);
    if (aligned) return *reinterpret_cast<const float4*>(find(channel, col));
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = col + j < cols ? *find(channel, col + j) : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
  }

  __device__ const float* find(int channel, int col) const {
    const int position = k.quotient(col);
    return w + (size_t(position) * c + channel) * k.value + (col - position * k.value);
  }

  const float* w;
  int cols, c;
  Divisor k;
  bool aligned;
};

}  // namespace mnist::MNIST_TARGET
