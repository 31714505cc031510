// Max pooling: y[n,p,q,c] = max over the window of x[n, p*stride_h-pad_h+i, q*stride_w-pad_w+j, c].
// A window's gradient goes to its first maximum in row-major order, whose index in the window the
// forward pass notes in one byte. Backward gathers: each element of x asks the windows that cover
// it, so overlapping windows need no atomics.
//
// A thread takes one position and every second, third, ... vector of four of its channels, four
// vectors at most. With 32 channels, threads 2i and 2i + 1 share position i: the first takes
// channels 0-3, 8-11, 16-19, 24-27, the second those between, so that neighbours read neighbours.
// The default network does not come here: its poolings are part of conv2d_pool_forward.cu.
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {
namespace {

void check_shape(const PoolShape& s) {
  CHECK(s.n > 0 && s.h > 0 && s.w > 0 && s.c > 0 && s.p > 0 && s.q > 0);
  CHECK(s.window_h > 0 && s.window_w > 0 && s.stride_h > 0 && s.stride_w > 0);
  CHECK(int64_t{s.window_h} * s.window_w <= 256);
  // Every window holds at least one input.
  CHECK(s.pad_h >= 0 && s.pad_h < s.window_h && s.pad_w >= 0 && s.pad_w < s.window_w);
  CHECK(int64_t{s.p - 1} * s.stride_h < int64_t{s.h} + s.pad_h);
  CHECK(int64_t{s.q - 1} * s.stride_w < int64_t{s.w} + s.pad_w);
  constexpr int64_t kLimit = 1 << 30;  // an image's elements are counted in int
  CHECK(int64_t{s.h} * s.w < kLimit / s.c && int64_t{s.p} * s.q < kLimit / s.c);
}

}  // namespace

// The share of each thread: one position (n, row, col), and of its channels the vectors of four
// from `channel` on that are `step` channels apart, kVectorsPerThread at most.
struct PoolThreads {
  PoolThreads(int image_count, int row_count, int col_count, int channels)
      : rows(row_count),
        cols(col_count),
        groups(ceil_div(channels, 4 * kVectorsPerThread)),
        step(groups.value * 4),
        count(image_count * row_count * col_count * groups.value) {
    CHECK(int64_t{image_count} * row_count * col_count < INT32_MAX / groups.value);
  }

  struct Share {
    int n, row, col, channel;
  };
  __device__ Share share(int index) const {
    const int position = groups.quotient(index), line = cols.quotient(position);
    const int n = rows.quotient(line);
    return {n, line - n * rows.value, position - line * cols.value,
            (index - position * groups.value) * 4};
  }

  Divisor rows, cols, groups;
  int step, count;
};

// y and argmax [N,P,Q,C], argmax may be null, x [N,H,W,C]. A thread for each group of channels of a
// position of y.
__global__ void __launch_bounds__(kBlockSize, 1)
    maxpool2d_forward_kernel(float* y, uint8_t* argmax, const float* x, PoolThreads threads,
                             PoolShape shape) {
  const int64_t index = element_index();
  if (index >= threads.count) return;
  const auto [n, p, q, channel] = threads.share(int(index));
  const bool aligned = shape.c % 4 == 0;
  const int top = p * shape.stride_h - shape.pad_h, left = q * shape.stride_w - shape.pad_w;
  const int i_begin = max(0, -top), i_end = min(shape.window_h, shape.h - top);
  const int j_begin = max(0, -left), j_end = min(shape.window_w, shape.w - left);
  const float* corner = x + ((int64_t{n} * shape.h + top) * shape.w + left) * shape.c;
  const int64_t out = ((int64_t{n} * shape.p + p) * shape.q + q) * shape.c;

  for (int c = channel; c < shape.c; c += threads.step) {
    const int valid = shape.c - c;
    const auto input = [&](int i, int j) {
      return load4(corner + (i * shape.w + j) * shape.c + c, valid, aligned);
    };
    // Starting from the first value, not from -infinity, lets a NaN win there.
    const float4 start = input(i_begin, j_begin);
    const int first = i_begin * shape.window_w + j_begin;
    float best[4] = {start.x, start.y, start.z, start.w};
    int best_index[4] = {first, first, first, first};
    for (int i = i_begin; i < i_end; ++i) {
      for (int j = j_begin; j < j_end; ++j) {
        const float4 v = input(i, j);
        const float values[4] = {v.x, v.y, v.z, v.w};
        const int index_in_window = i * shape.window_w + j;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const bool wins = values[k] > best[k];
          best[k] = wins ? values[k] : best[k];
          best_index[k] = wins ? index_in_window : best_index[k];
        }
      }
    }
    store4(y + out + c, make_float4(best[0], best[1], best[2], best[3]), valid, aligned);
    if (argmax != nullptr)
      store4(argmax + out + c,
             make_uchar4(uint8_t(best_index[0]), uint8_t(best_index[1]), uint8_t(best_index[2]),
                         uint8_t(best_index[3])),
             valid, aligned);
  }
}

void maxpool2d_forward(float* y, uint8_t* argmax, const float* x, const PoolShape& shape,
                       cudaStream_t stream) {
  check_shape(shape);
  CHECK(y != nullptr && x != nullptr);
  const PoolThreads threads(shape.n, shape.p, shape.q, shape.c);
  launch(maxpool2d_forward_kernel, elementwise_grid(threads.count), dim3(kBlockSize), stream, y,
         argmax, x, threads, shape);
}

// dx, gate [N,H,W,C], gate may be null, dy and argmax [N,P,Q,C]. A thread for each group of
// channels of a position of dx.
__global__ void __launch_bounds__(kBlockSize, 1)
    maxpool2d_backward_kernel(float* dx, const float* dy, const uint8_t* argmax, const float* gate,
                              PoolThreads threads, Divisor stride_h, Divisor stride_w,
                              PoolShape shape) {
  const int64_t index = element_index();
  if (index >= threads.count) return;
  const auto [n, h, w, channel] = threads.share(int(index));
  const bool aligned = shape.c % 4 == 0;
  // The windows that cover this position: they begin at or before it, and have not ended.
  const int bottom = h + shape.pad_h, right = w + shape.pad_w;
  const auto first = [](int end, int window, const Divisor& stride) {
    return end < window ? 0 : stride.quotient(end - window) + 1;
  };
  const int p_begin = first(bottom, shape.window_h, stride_h);
  const int q_begin = first(right, shape.window_w, stride_w);
  const int p_end = min(shape.p, stride_h.quotient(bottom) + 1);
  const int q_end = min(shape.q, stride_w.quotient(right) + 1);
  const int64_t image = int64_t{n} * shape.p * shape.q * shape.c;
  const float* image_dy = dy + image;
  const uint8_t* image_argmax = argmax + image;
  const int64_t out = ((int64_t{n} * shape.h + h) * shape.w + w) * shape.c;

  for (int c = channel; c < shape.c; c += threads.step) {
    const int valid = shape.c - c;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int p = p_begin; p < p_end; ++p) {
      for (int q = q_begin; q < q_end; ++q) {
        const int index_in_window =
            (bottom - p * shape.stride_h) * shape.window_w + right - q * shape.stride_w;
        const int from = (p * shape.q + q) * shape.c + c;
        const float4 v = load4(image_dy + from, valid, aligned);
        const uchar4 winner = load4(image_argmax + from, valid, aligned);
        sum.x += winner.x == index_in_window ? v.x : 0.0f;
        sum.y += winner.y == index_in_window ? v.y : 0.0f;
        sum.z += winner.z == index_in_window ? v.z : 0.0f;
        sum.w += winner.w == index_in_window ? v.w : 0.0f;
      }
    }
    if (gate != nullptr) sum = gated(sum, load4(gate + out + c, valid, aligned));
    store4(dx + out + c, sum, valid, aligned);
  }
}

void maxpool2d_backward(float* dx, const float* dy, const uint8_t* argmax, const float* gate,
                        const PoolShape& shape, cudaStream_t stream) {
  check_shape(shape);
  CHECK(dx != nullptr && dy != nullptr && argmax != nullptr);
  const PoolThreads threads(shape.n, shape.h, shape.w, shape.c);
  launch(maxpool2d_backward_kernel, elementwise_grid(threads.count), dim3(kBlockSize), stream, dx,
         dy, argmax, gate, threads, Divisor(shape.stride_h), Divisor(shape.stride_w), shape);
}

}  // namespace mnist::MNIST_TARGET
