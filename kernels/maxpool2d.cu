// Max pooling: y[n,p,q,c] = max over the window of x[n, p*stride_h-pad_h+i, q*stride_w-pad_w+j, c].
// A window's gradient goes to its first maximum in row-major order, whose place the forward pass notes
// in one byte. Backward gathers: each element of x asks the windows that cover it, so overlapping
// windows need no atomics. A thread does four neighbouring channels of one position.
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {
namespace {

void check_shape(const PoolShape& s) {
  CHECK(s.n > 0 && s.h > 0 && s.w > 0 && s.c > 0 && s.p > 0 && s.q > 0);
  CHECK(s.window_h > 0 && s.window_w > 0 && s.stride_h > 0 && s.stride_w > 0);
  CHECK(int64_t{s.window_h} * s.window_w <= 256);
  CHECK(s.pad_h >= 0 && s.pad_h < s.window_h && s.pad_w >= 0 && s.pad_w < s.window_w);
  CHECK(int64_t{s.p - 1} * s.stride_h < int64_t{s.h} + s.pad_h);
  CHECK(int64_t{s.q - 1} * s.stride_w < int64_t{s.w} + s.pad_w);
  constexpr int64_t kLimit = 1 << 30;  // vectors are counted in int
  CHECK(int64_t{s.h} * s.w < kLimit && int64_t{s.p} * s.q < kLimit);
  CHECK(int64_t(s.input_size()) / 4 < kLimit && int64_t(s.output_size()) / 4 < kLimit);
  CHECK(s.pad_h < kLimit && s.pad_w < kLimit);
}

}  // namespace

// Splits the index of a vector into (n, row, col, vector of channels).
struct VectorIndex {
  VectorIndex(int row_count, int col_count, int channels)
      : rows(row_count), cols(col_count), vectors(ceil_div(channels, 4)) {}

  struct Parts {
    int n, row, col, channel;
  };
  __device__ Parts split(int index) const {
    const int position = vectors.quotient(index), line = cols.quotient(position);
    const int n = rows.quotient(line);
    return {n, line - n * rows.value, position - line * cols.value,
            (index - position * vectors.value) * 4};
  }

  Divisor rows, cols, vectors;
};

__global__ void __launch_bounds__(kBlockSize, 1)
    maxpool2d_forward_kernel(float* y, uint8_t* argmax, const float* x, VectorIndex outputs,
                             int count, PoolShape shape) {
  const int64_t index = element_index();
  if (index >= count) return;
  const auto [n, p, q, c] = outputs.split(int(index));
  const bool aligned = shape.c % 4 == 0;
  const int valid = shape.c - c;
  const int top = p * shape.stride_h - shape.pad_h, left = q * shape.stride_w - shape.pad_w;
  const int i_begin = max(0, -top), i_end = min(shape.window_h, shape.h - top);
  const int j_begin = max(0, -left), j_end = min(shape.window_w, shape.w - left);

  float best[4] = {};
  int place[4] = {};
  bool first = true;
  for (int i = i_begin; i < i_end; ++i) {
    for (int j = j_begin; j < j_end; ++j) {
      const float4 v =
          load4(x + ((int64_t{n} * shape.h + top + i) * shape.w + left + j) * shape.c + c, valid,
                aligned);
      const float values[4] = {v.x, v.y, v.z, v.w};
      const int here = i * shape.window_w + j;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const bool wins = first || values[k] > best[k];
        best[k] = wins ? values[k] : best[k];
        place[k] = wins ? here : place[k];
      }
      first = false;
    }
  }

  const int64_t at = ((int64_t{n} * shape.p + p) * shape.q + q) * shape.c + c;
  store4(y + at, make_float4(best[0], best[1], best[2], best[3]), valid, aligned);
  if (argmax == nullptr) return;
  if (aligned) {
    *reinterpret_cast<uchar4*>(argmax + at) = make_uchar4(
        uint8_t(place[0]), uint8_t(place[1]), uint8_t(place[2]), uint8_t(place[3]));
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k < valid) argmax[at + k] = uint8_t(place[k]);
  }
}

void maxpool2d_forward(float* y, uint8_t* argmax, const float* x, const PoolShape& shape,
                       cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr);
  const int count = shape.n * shape.p * shape.q * ceil_div(shape.c, 4);
  launch(maxpool2d_forward_kernel, elementwise_grid(count), dim3(kBlockSize), 0, stream, y, argmax,
         x, VectorIndex(shape.p, shape.q, shape.c), count, shape);
}

__global__ void __launch_bounds__(kBlockSize, 1)
    maxpool2d_backward_kernel(float* dx, const float* dy, const uint8_t* argmax, const float* gate,
                              VectorIndex inputs, int count, Divisor stride_h, Divisor stride_w,
                              PoolShape shape) {
  const int64_t index = element_index();
  if (index >= count) return;
  const auto [n, h, w, c] = inputs.split(int(index));
  const bool aligned = shape.c % 4 == 0;
  const int valid = shape.c - c;
  // Of the windows that begin at or before this position, those not yet ended.
  const int bottom = h + shape.pad_h, right = w + shape.pad_w;
  const int p_end = min(shape.p, stride_h.quotient(bottom) + 1);
  const int q_end = min(shape.q, stride_w.quotient(right) + 1);
  const int p_begin = bottom < shape.window_h
                          ? 0 : stride_h.quotient(bottom - shape.window_h) + 1;
  const int q_begin = right < shape.window_w
                          ? 0 : stride_w.quotient(right - shape.window_w) + 1;

  float4 sum = make_float4(0, 0, 0, 0);
  for (int p = p_begin; p < p_end; ++p) {
    for (int q = q_begin; q < q_end; ++q) {
      const int here = (bottom - p * shape.stride_h) * shape.window_w + right - q * shape.stride_w;
      const int64_t from = ((int64_t{n} * shape.p + p) * shape.q + q) * shape.c + c;
      const float4 v = load4(dy + from, valid, aligned);
      uchar4 place;
      if (aligned) {
        place = *reinterpret_cast<const uchar4*>(argmax + from);
      } else {
        place = make_uchar4(argmax[from], valid > 1 ? argmax[from + 1] : 0,
                            valid > 2 ? argmax[from + 2] : 0, valid > 3 ? argmax[from + 3] : 0);
      }
      sum.x += place.x == here ? v.x : 0.0f;
      sum.y += place.y == here ? v.y : 0.0f;
      sum.z += place.z == here ? v.z : 0.0f;
      sum.w += place.w == here ? v.w : 0.0f;
    }
  }
  const int64_t at = ((int64_t{n} * shape.h + h) * shape.w + w) * shape.c + c;
  if (gate != nullptr) sum = gated(sum, load4(gate + at, valid, aligned));
  store4(dx + at, sum, valid, aligned);
}

void maxpool2d_backward(float* dx, const float* dy, const uint8_t* argmax, const float* gate,
                        const PoolShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dx != nullptr && dy != nullptr && argmax != nullptr);
  const int count = shape.n * shape.h * shape.w * ceil_div(shape.c, 4);
  launch(maxpool2d_backward_kernel, elementwise_grid(count), dim3(kBlockSize), 0, stream, dx, dy,
         argmax, gate, VectorIndex(shape.h, shape.w, shape.c), count, Divisor(shape.stride_h),
         Divisor(shape.stride_w), shape);
}

}  // namespace mnist::MNIST_TARGET
