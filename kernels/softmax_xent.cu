// Softmax and cross-entropy from logits z [n,classes], one thread per row:
//   e = exp(z - max(z))
//   loss = log(sum(e)) + max(z) - z_y,   dz = (e / sum(e) - onehot(y)) / rows
// The losses are summed in double precision and in a fixed order: by shuffles in a warp, by warps
// in a block, then, by the last block to finish, over the blocks. What the step counts is asked for
// before anything is computed, so that it is there when the sums are.
//
// Default network: logits [128,10], one block of 128 threads = 4 warps, thread n for row n. Ten
// classes are known to the compiler, and a row is kept in registers; its loads are 8 bytes wide,
// and rows lie 40 bytes apart. 10 KB in all: what counts is the latency.
#include <cmath>

#include "kernels/common.cuh"
#include "kernels/exp_log.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"
#include "kernels/metrics.cuh"
#include "kernels/step_state.cuh"

namespace mnist::MNIST_TARGET {

inline constexpr int kRowsPerBlock = 128;  // one per thread

// The logits of a row, for a number of classes that is known; 0: for any number.
template <int kClasses>
struct LogitRow {
  __device__ LogitRow(const float* logits, int row, int) {
    unrolled<kClasses>([&](auto c) INLINED { z[c] = logits[int64_t{row} * kClasses + c]; });
  }
  __device__ float operator[](int c) const { return z[c]; }
  static constexpr int classes = kClasses;
  float z[kClasses];
};
template <>
struct LogitRow<0> {
  __device__ LogitRow(const float* logits, int row, int classes)
      : classes(classes), z(logits + int64_t{row} * classes) {}
  __device__ float operator[](int c) const { return z[c]; }
  int classes;
  const float* z;
};

struct RowMaximum {
  float value;
  int index;  // of the first of equal ones
};

template <typename Row>
__device__ inline RowMaximum row_maximum(const Row& z) {
  RowMaximum best{z[0], 0};
  for (int c = 1; c < z.classes; ++c)
    if (z[c] > best.value) best = {z[c], c};
  return best;
}

template <typename Row>
__device__ inline float sum_of_exponentials(const Row& z, float maximum) {
  float sum = 0;
  for (int c = 0; c < z.classes; ++c) sum += exponential(z[c] - maximum);
  return sum;
}

__device__ inline XentPartial warp_sum(XentPartial v) {
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    v.loss += __shfl_down_sync(kFullMask, v.loss, distance);
    v.correct += __shfl_down_sync(kFullMask, v.correct, distance);
  }
  return v;
}

// logits [n,classes], labels [n], dlogits [n,classes] or null, partials [blocks].
template <int kClasses>
__global__ void __launch_bounds__(kRowsPerBlock, 1)
    softmax_xent_kernel(float* dlogits, MetricSums* metrics, XentPartial* partials,
                        const float* logits, const uint8_t* labels, StepState* state, int n,
                        int classes) {
  constexpr int kWarps = kRowsPerBlock / kWarpSize;
  __shared__ XentPartial warp_sums[kWarps];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int index = blockIdx.x * kRowsPerBlock + threadIdx.x;
  const int row = min(index, n - 1);  // after the last one: again, but neither stored nor counted
  const LogitRow<kClasses> z(logits, row, classes);
  const int label = labels[row];
  // A label that is not a class makes the loss a NaN, which the caller sees.
  const float label_logit = label < z.classes ? logits[int64_t{row} * z.classes + label] : NAN;
  const int rows = state != nullptr ? batch_rows(*state, n) : n;
  // What two threads will go on with, asked for early: nobody else writes it before every block is
  // done.
  MetricSums sums{};
  if (threadIdx.x == 0) sums = metrics_before(*metrics);
  const bool sets_up = state != nullptr && blockIdx.x == 0 && threadIdx.x == kWarpSize;
  StepState step{};
  if (sets_up) step = *state;

  const RowMaximum best = row_maximum(z);
  const float sum = sum_of_exponentials(z, best.value);
  XentPartial total{0, 0};
  if (index < rows)
    total = {double(logarithm(sum) + (best.value - label_logit)), best.index == label};
  total = warp_sum(total);
  if (lane == 0) warp_sums[warp] = total;

  if (dlogits != nullptr && index < n) {
    const float share = 1.0f / sum, scale = 1.0f / float(rows);
    float* dz = dlogits + int64_t{row} * z.classes;
    for (int c = 0; c < z.classes; ++c) {
      const float target = c == label ? 1.0f : 0.0f;
      const float gradient = fmaf(exponential(z[c] - best.value), share, -target) * scale;
      dz[c] = index < rows ? gradient : 0.0f;
    }
  }

  __syncthreads();  // lane 0 of every warp wrote, thread 0 reads
  if (sets_up) {
    set_up_update(step);
    state->beta1_power = step.beta1_power;
    state->beta2_power = step.beta2_power;
    state->bias_correction = step.bias_correction;
  }
  if (threadIdx.x != 0) return;
  total = {0, 0};
  for (int i = 0; i < kWarps; ++i) {
    total.loss += warp_sums[i].loss;
    total.correct += warp_sums[i].correct;
  }
  if (gridDim.x > 1) {
    partials[blockIdx.x] = total;
    __threadfence();  // the sum is visible before the ticket is taken
    if (atomicAdd(&metrics->ticket, 1u) != gridDim.x - 1) return;
    __threadfence();  // all other blocks' sums are visible
    total = {0, 0};
    for (unsigned i = 0; i < gridDim.x; ++i) {
      const volatile XentPartial& block = partials[i];
      total.loss += block.loss;
      total.correct += block.correct;
    }
  }
  add_batch(metrics, sums, total, rows);
}

size_t softmax_xent_workspace(int n) {
  CHECK(n > 0);
  return size_t(ceil_div(n, kRowsPerBlock)) * sizeof(XentPartial) / sizeof(float);
}

void softmax_xent(float* dlogits, MetricSums* metrics, float* workspace, const float* logits,
                  const uint8_t* labels, StepState* state, int n, int classes,
                  cudaStream_t stream) {
  CHECK(n > 0 && classes > 0);
  CHECK(metrics != nullptr && workspace != nullptr && logits != nullptr && labels != nullptr);
  launch(classes == 10 ? softmax_xent_kernel<10> : softmax_xent_kernel<0>,
         dim3(unsigned(ceil_div(n, kRowsPerBlock))), dim3(kRowsPerBlock), stream, dlogits, metrics,
         reinterpret_cast<XentPartial*>(workspace), logits, labels, state, n, classes);
}

// probabilities and logits [n,classes]. A thread per row.
__global__ void __launch_bounds__(kRowsPerBlock, 1)
    softmax_kernel(float* probabilities, const float* logits, int n, int classes) {
  const int row = blockIdx.x * kRowsPerBlock + threadIdx.x;
  if (row >= n) return;
  const LogitRow<0> z(logits, row, classes);
  const float maximum = row_maximum(z).value;
  const float share = 1.0f / sum_of_exponentials(z, maximum);
  for (int c = 0; c < classes; ++c)
    probabilities[int64_t{row} * classes + c] = exponential(z[c] - maximum) * share;
}

void softmax(float* probabilities, const float* logits, int n, int classes, cudaStream_t stream) {
  CHECK(n > 0 && classes > 0);
  CHECK(probabilities != nullptr && logits != nullptr);
  launch(softmax_kernel, dim3(unsigned(ceil_div(n, kRowsPerBlock))), dim3(kRowsPerBlock), stream,
         probabilities, logits, n, classes);
}

}  // namespace mnist::MNIST_TARGET
