// Every operation's launcher, one contract each. Outputs come first, then inputs, sizes, stream.
//
// Pointers are device pointers, aligned to 16 bytes; no output may overlap another argument. Sizes
// are validated (std::invalid_argument), and a failed launch throws CudaError. All launches are
// asynchronous on `stream`, may be captured into a graph, and are deterministic: sums have a fixed
// order that depends on the shape alone. `_naive` launchers compute the same straight from the
// definition; tests and the benchmark use them. Layouts and sizes: shapes.h. A workspace is scratch
// memory that the launcher may overwrite; the function beside it tells how many floats it needs (0:
// null is allowed).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// ---- normalize.cu ------------------------------------------------------------------------------
// x [batch,pixels] float, y [batch] = the rows of images [source_rows,pixels] and labels
// [source_rows]. With `state`, row i of the batch is sample j = batch_begin + i of the epoch, found
// in source row permutation[j] of permutation [samples]; rows from batch_rows on are zeroed.
// Without `state` (null), row i is source row i. x = u8 * scale. y and labels may both be null.
// Images, labels and permutation may be in pinned memory.
void normalize(float* x, uint8_t* y, const uint8_t* images, const uint8_t* labels,
               const int32_t* permutation, const StepState* state, const BatchShape& shape,
               cudaStream_t stream);

// ---- conv2d_forward.cu -------------------------------------------------------------------------
// y = x (*) w + bias, then max(.,0) if relu; cross-correlation as in Keras. bias [K] may be null.
void conv2d_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                    const ConvShape& shape, cudaStream_t stream);
void conv2d_forward_naive(float* y, const float* x, const float* w, const float* bias, bool relu,
                          const ConvShape& shape, cudaStream_t stream);

// ---- conv2d_backward.cu ------------------------------------------------------------------------
// dx = gradient of the loss by x. With `gate` (same shape as dx: the x of the forward pass), dx is
// zeroed where !(gate > 0): that is the backward pass of the ReLU that made x. Same in every
// `backward_data` below.
void conv2d_backward_data(float* dx, const float* dy, const float* w, const float* gate,
                          const ConvShape& shape, cudaStream_t stream);
void conv2d_backward_data_naive(float* dx, const float* dy, const float* w, const float* gate,
                                const ConvShape& shape, cudaStream_t stream);
// dw [R,S,C,K] = gradient by the filter; dbias [K] = gradient by the bias, unless null. Same in
// every `backward_filter` below.
size_t conv2d_backward_filter_workspace(const ConvShape& shape);
void conv2d_backward_filter(float* dw, float* dbias, float* workspace, const float* x,
                            const float* dy, const ConvShape& shape, cudaStream_t stream);
void conv2d_backward_filter_naive(float* dw, float* dbias, const float* x, const float* dy,
                                  const ConvShape& shape, cudaStream_t stream);

// ---- conv2d_pool_forward.cu --------------------------------------------------------------------
// A convolution and the 2x2 max pooling with stride 2 after it as one operation, for filters of 3x3
// with stride 1 and even P and Q.
bool conv2d_pool_fits(const ConvShape& shape);
// y [N,P/2,Q/2,K] and argmax (may be null): what maxpool2d_forward makes of conv2d_forward's y.
void conv2d_pool_forward(float* y, uint8_t* argmax, const float* x, const float* w,
                         const float* bias, bool relu, const ConvShape& shape, cudaStream_t stream);

// ---- conv2d_pool_backward.cu -------------------------------------------------------------------
// The backward pass of both. dy [N,P/2,Q/2,K] is the gradient by the pooled output; three of four
// values of the gradient between the two are zero, and no time is spent on them.
void conv2d_pool_backward_data(float* dx, const float* dy, const uint8_t* argmax, const float* w,
                               const float* gate, const ConvShape& shape, cudaStream_t stream);
size_t conv2d_pool_backward_filter_workspace(const ConvShape& shape);
void conv2d_pool_backward_filter(float* dw, float* dbias, float* workspace, const float* x,
                                 const float* dy, const uint8_t* argmax, const ConvShape& shape,
                                 cudaStream_t stream);

// ---- maxpool2d.cu ------------------------------------------------------------------------------
// y = the largest value of each window; argmax (may be null) = its index in the window, row-major,
// the first of equal ones. A NaN wins if it comes first.
void maxpool2d_forward(float* y, uint8_t* argmax, const float* x, const PoolShape& shape,
                       cudaStream_t stream);
// dx = dy sent to each window's argmax (summed where windows overlap), gated as above.
void maxpool2d_backward(float* dx, const float* dy, const uint8_t* argmax, const float* gate,
                        const PoolShape& shape, cudaStream_t stream);

// ---- dense.cu ----------------------------------------------------------------------------------
// y = x w + bias, then max(.,0) if relu. bias [out] may be null.
void dense_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                   const DenseShape& shape, cudaStream_t stream);
void dense_forward_naive(float* y, const float* x, const float* w, const float* bias, bool relu,
                         const DenseShape& shape, cudaStream_t stream);
void dense_backward_data(float* dx, const float* dy, const float* w, const float* gate,
                         const DenseShape& shape, cudaStream_t stream);
void dense_backward_data_naive(float* dx, const float* dy, const float* w, const float* gate,
                               const DenseShape& shape, cudaStream_t stream);
// dw [in,out] = x^T dy.
void dense_backward_filter(float* dw, float* dbias, const float* x, const float* dy,
                           const DenseShape& shape, cudaStream_t stream);
void dense_backward_filter_naive(float* dw, float* dbias, const float* x, const float* dy,
                                 const DenseShape& shape, cudaStream_t stream);

// ---- dropout.cu --------------------------------------------------------------------------------
// out = in / (1-rate) where kept, else 0; element i is kept if uniform01(first word) >= rate, of
// Philox4x32-10 with key (seed, layer) and counter (i, state->iteration). Forward on x, backward on
// dy: same mask, as long as the iteration is the same. gate as above (null in the forward pass).
// 0 <= rate < 1.
void dropout(float* out, const float* in, const float* gate, const StepState* state, float rate,
             uint64_t seed, uint32_t layer, size_t size, cudaStream_t stream);

// ---- softmax_xent.cu ---------------------------------------------------------------------------
// One pass over logits [n,classes] and labels [n]: adds each row's cross-entropy logsumexp(z) -
// z_y, and whether its largest logit (the first of equal ones) is the label's, to *metrics; writes
// dlogits = (softmax(z) - onehot(y)) / rows unless null. With `state`, only the first
// batch_rows(*state, n) rows count (the other rows of dlogits are zero), and the update that
// follows is set up (set_up_update() in step_state.cuh); else all n count.
size_t softmax_xent_workspace(int n);
void softmax_xent(float* dlogits, MetricSums* metrics, float* workspace, const float* logits,
                  const uint8_t* labels, StepState* state, int n, int classes, cudaStream_t stream);
// probabilities [n,classes] = softmax(logits).
void softmax(float* probabilities, const float* logits, int n, int classes, cudaStream_t stream);

// ---- adam.cu -----------------------------------------------------------------------------------
// One update of the whole arena, which softmax_xent has set up, in Keras' form (epsilon outside the
// bias correction): m += (g-m)(1-beta1); v += (g*g-v)(1-beta2); w -= learning_rate *
// bias_correction * m / (sqrt(v)+eps). Counts it: state->iteration += 1.
void adam(float* w, float* m, float* v, const float* g, StepState* state, const AdamParams& params,
          size_t size, cudaStream_t stream);
// The state after `iteration` updates, to the bit, with no epoch.
StepState initial_step_state(int64_t iteration, float learning_rate, const AdamParams& params);

// ---- init.cu -----------------------------------------------------------------------------------
// w [size] = uniform in [-L, L), L = sqrt(6/(fan_in+fan_out)) (Glorot & Bengio 2010), element i
// from Philox4x32-10 with key (seed, tensor) and counter i: the same bits on every target.
void glorot_uniform(float* w, size_t size, int64_t fan_in, int64_t fan_out, uint64_t seed,
                    uint32_t tensor, cudaStream_t stream);

}  // namespace mnist::MNIST_TARGET
