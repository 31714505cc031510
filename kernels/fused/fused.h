// The training step of the default network in five kernels, on tensor cores: FP16 operands, float32
// sums, weights, moments, biases and softmax. Contract of the launchers; README.md has the plan.
//
//   conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128,dense:10   on images of 28x28x1
//
// The first pooling makes 13x13 positions, of which the second convolution and pooling see the
// first 12x12 alone ("positions" below); the second pooling makes 5x5.
//
// The launchers belong on one stream, in the order of this file. Some kernels begin before the one
// before them has ended (launch_dependent()), and read what others but that one wrote: so none may
// be launched twice in a row, unless a copy, a fill or another kernel stands between.
//
// Numbers in FP16 are rounded to nearest; one beyond 65504 in magnitude becomes 65504 and is
// counted in MetricSums::saturated. A NaN stays one. Gradients up to Adam's are kLossScale times as
// large as they are, so that FP16 does not lose the small ones. Every sum has a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

inline constexpr int kFusedBatch = 128;  // the largest batch of a training step
inline constexpr float kLossScale = 32768;

namespace fused {
inline constexpr int kSide = 28, kPixels = kSide * kSide;
inline constexpr int kChannels1 = 32, kSide1 = 12, kPositions = kSide1 * kSide1;
inline constexpr int kChannels2 = 64, kSide2 = 5, kWindows = kSide2 * kSide2;
inline constexpr int kFlat = kWindows * kChannels2;  // 1600
inline constexpr int kHidden = 128, kClasses = 10;
inline constexpr int kTaps = 9;
inline constexpr int kPaddedClasses = 16;
// What conv_backward sums of each image beside the second filter's gradient, in floats: the first
// filter's gradient [9][32], its bias' [32], the second bias' [64].
inline constexpr int kSmallSums = kTaps * kChannels1 + kChannels1 + kChannels2;
// The gradients that head leaves to update_filters: dense1's bias [128], dense2's filter [128][10]
// and bias [10].
inline constexpr int kHeadSums = kHidden + kHidden * kClasses + kClasses;
}  // namespace fused

// Where the parameters begin in the arenas, in floats: multiples of 4.
struct FusedOffsets {
  size_t conv1_w, conv1_b, conv2_w, conv2_b, dense1_w, dense1_b, dense2_w, dense2_b;
};

// All of the step's memory, on the device, aligned to 16 bytes. n is the batch, rounded up to a
// multiple of 16. In training, rows beyond the batch are zero and stay so. Evaluation needs neither
// moments nor a1, codes, gradients and state: they may be null.
struct FusedMemory {
  // The arenas of Model, float32.
  float *weights, *m, *v;
  FusedOffsets at;

  // FP16 copies of the weights, which the kernels that update the weights keep.
  Half* conv1_w;   // [16][32]: row 4 r + s is tap (r,s), s < 3, times 256/255; the others are zero
  Half* conv2_w;   // [288][64]: HWIO
  Half* dense1_w;  // [1600][128]
  Half* dense2_w;  // [128][16]: columns 10 to 15 are zero

  // What the forward pass leaves. Argmax codes: 0 to 3 = the position in the window, 4 = none,
  // since the ReLU made it zero.
  Half* a1;        // [n][144][32]: first pooling
  uint8_t* code1;  // [n][144][32]
  Half* a2;        // [n][1600]: second pooling
  uint8_t* code2;  // [n][25][64]
  Half* h;         // [n][128]: hidden layer

  // What the backward pass leaves, times kLossScale.
  Half* da2;          // [n][1600]: by the second pooling's output, zero where that is not positive
  float* head_sums;   // [kHeadSums]
  Half* conv2_dw;     // [n][288 * 64]: of each image, in the order that conv_backward.cuh states
  float* small_sums;  // [n][kSmallSums]; the first filter's by pixels u/256, not u/255

  StepState* state;
  MetricSums* metrics;
};

// A batch as bytes: pixels [n][784], aligned to 16 bytes, and labels [n].
struct FusedBatch {
  uint8_t* pixels;
  uint8_t* labels;
};
// Where batches come from, as in normalize(): row permutation[j] of images and labels for sample j
// of the epoch; may be in pinned memory. images is aligned to 16 bytes.
struct FusedSource {
  const uint8_t *images, *labels;
  const int32_t* permutation;
};

// The FP16 copies, from the float32 weights.
void fused_pack_weights(const FusedMemory& memory, cudaStream_t stream);
// to = the batch `ahead` of the one that the state is at; rows beyond the epoch's end are zero.
void fused_gather(const FusedBatch& to, const FusedSource& from, const FusedMemory& memory,
                  int batch, int ahead, cudaStream_t stream);

// ---- forward, also of evaluation: n images, any number ------------------------------------------
// a2 of pixels [n][784], where u stands for u / 255; for training also a1, code1 and code2.
void fused_conv_forward(const FusedMemory& memory, const uint8_t* pixels, int n,
                        cudaStream_t stream);
void fused_conv_forward_training(const FusedMemory& memory, const uint8_t* pixels, int batch,
                                 cudaStream_t stream);
// h of a2. For training: sets up the update (set_up_update() in step_state.cuh), and gathers the
// batch after this one into `next`, beside the product.
void fused_dense_forward(const FusedMemory& memory, int n, cudaStream_t stream);
void fused_dense_forward_training(const FusedMemory& memory, const FusedBatch& next,
                                  const FusedSource& source, int batch, cudaStream_t stream);
// logits [n][10], float32, of h; for evaluation.
void fused_logits(float* logits, const FusedMemory& memory, int n, cudaStream_t stream);

// ---- the rest of the step -----------------------------------------------------------------------
// Logits, softmax, loss and metrics of the first batch_rows() rows; da2, head_sums; dense1's filter
// updated, in float32 and FP16.
void fused_head(const FusedMemory& memory, const uint8_t* labels, int batch, const AdamParams& adam,
                cudaStream_t stream);
// conv2_dw and small_sums.
void fused_conv_backward(const FusedMemory& memory, const uint8_t* pixels, int batch,
                         cudaStream_t stream);
// The sums over the images, and the update of everything but dense1's filter; counts the update.
void fused_update_filters(const FusedMemory& memory, int batch, const AdamParams& adam,
                          cudaStream_t stream);

}  // namespace mnist::MNIST_TARGET
