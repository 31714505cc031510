// Softmax and cross-entropy from logits z [n,classes], one thread per row:
//   loss = logsumexp(z) - z_y,   dz = (softmax(z) - onehot(y)) / rows
// with the maximum taken out of every exponential. The losses are summed in double precision and in
// a fixed order: by shuffles in a warp, by warps in a block, then, by the last block to finish,
// over the blocks.
//
// Default network: logits [128,10], one block of 128 threads = 4 warps, thread n for row n. A row
// is 40 bytes, so loads are of 4 (or 8). 10 KB in all: what counts is the latency.
#include <cmath>

#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

inline constexpr int kRowsPerBlock = 128;  // one per thread

// What a block adds to MetricSums.
struct XentPartial {
  double loss;
  int64_t correct;
};

struct RowMaximum {
  float value;
  int index;  // of the first of equal ones
};

__device__ inline RowMaximum row_maximum(const float* z, int classes) {
  RowMaximum best{z[0], 0};
  for (int c = 1; c < classes; ++c)
    if (z[c] > best.value) best = {z[c], c};
  return best;
}

__device__ inline float sum_of_exponentials(const float* z, int classes, float maximum) {
  float sum = 0;
  for (int c = 0; c < classes; ++c) sum += expf(z[c] - maximum);
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
__global__ void __launch_bounds__(kRowsPerBlock, 1)
    softmax_xent_kernel(float* dlogits, MetricSums* metrics, XentPartial* partials,
                        const float* logits, const uint8_t* labels, const StepState* state, int n,
                        int classes) {
  constexpr int kWarps = kRowsPerBlock / kWarpSize;
  __shared__ XentPartial warp_sums[kWarps];
  const int row = blockIdx.x * kRowsPerBlock + threadIdx.x;
  const int rows = state != nullptr ? batch_rows(*state, n) : n;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;

  XentPartial mine{0, 0};
  if (row < rows) {
    const float* z = logits + int64_t{row} * classes;
    const int label = labels[row];
    const RowMaximum best = row_maximum(z, classes);
    const float sum = sum_of_exponentials(z, classes, best.value);
    // A label that is not a class makes the loss a NaN, which the caller sees.
    mine.loss = label < classes ? logf(sum) + (best.value - z[label]) : NAN;
    mine.correct = best.index == label;
    if (dlogits != nullptr) {
      float* dz = dlogits + int64_t{row} * classes;
      for (int c = 0; c < classes; ++c)
        dz[c] = (expf(z[c] - best.value) / sum - (c == label ? 1.0f : 0.0f)) / rows;
    }
  } else if (row < n && dlogits != nullptr) {
    for (int c = 0; c < classes; ++c) dlogits[int64_t{row} * classes + c] = 0;
  }

  mine = warp_sum(mine);
  if (lane == 0) warp_sums[warp] = mine;
  __syncthreads();  // lane 0 of every warp wrote, thread 0 reads
  if (threadIdx.x != 0) return;
  XentPartial block{0, 0};
  for (int i = 0; i < kWarps; ++i) {
    block.loss += warp_sums[i].loss;
    block.correct += warp_sums[i].correct;
  }
  partials[blockIdx.x] = block;
  __threadfence();  // the sum is visible before the ticket is taken
  if (atomicAdd(&metrics->ticket, 1u) != gridDim.x - 1) return;

  __threadfence();  // all other blocks' sums are visible
  const volatile XentPartial* sums = partials;
  double loss = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) {
    loss += sums[i].loss;
    metrics->correct += sums[i].correct;
  }
  metrics->loss += loss;
  metrics->samples += rows;
  metrics->batches += 1;
  if (!std::isfinite(loss) && metrics->first_nonfinite == 0)
    metrics->first_nonfinite = metrics->batches;
  metrics->ticket = 0;
}

size_t softmax_xent_workspace(int n) {
  CHECK(n > 0);
  return size_t(ceil_div(n, kRowsPerBlock)) * sizeof(XentPartial) / sizeof(float);
}

void softmax_xent(float* dlogits, MetricSums* metrics, float* workspace, const float* logits,
                  const uint8_t* labels, const StepState* state, int n, int classes,
                  cudaStream_t stream) {
  CHECK(n > 0 && classes > 0);
  CHECK(metrics != nullptr && workspace != nullptr && logits != nullptr && labels != nullptr);
  launch(softmax_xent_kernel, dim3(unsigned(ceil_div(n, kRowsPerBlock))), dim3(kRowsPerBlock),
         stream, dlogits, metrics, reinterpret_cast<XentPartial*>(workspace), logits, labels, state,
         n, classes);
}

// probabilities and logits [n,classes]. A thread per row.
__global__ void __launch_bounds__(kRowsPerBlock, 1)
    softmax_kernel(float* probabilities, const float* logits, int n, int classes) {
  const int row = blockIdx.x * kRowsPerBlock + threadIdx.x;
  if (row >= n) return;
  const float* z = logits + int64_t{row} * classes;
  const float maximum = row_maximum(z, classes).value;
  const float sum = sum_of_exponentials(z, classes, maximum);
  for (int c = 0; c < classes; ++c)
    probabilities[int64_t{row} * classes + c] = expf(z[c] - maximum) / sum;
}

void softmax(float* probabilities, const float* logits, int n, int classes, cudaStream_t stream) {
  CHECK(n > 0 && classes > 0);
  CHECK(probabilities != nullptr && logits != nullptr);
  launch(softmax_kernel, dim3(unsigned(ceil_div(n, kRowsPerBlock))), dim3(kRowsPerBlock), stream,
         probabilities, logits, n, classes);
}

}  // namespace mnist::MNIST_TARGET
