// What a backend provides: the layers of a model as operations on device memory, and softmax.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/model/model.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET {

// Training keeps every activation for the backward pass; inference keeps none and drops nothing
// out.
enum class Mode { kTraining, kInference };

// What a call works with beside its tensors.
struct Pass {
  const float* weights;    // the arena of all parameters
  const StepState* state;  // read by dropout alone
  int n;                   // samples in the batch
  cudaStream_t stream;
  // Tensors and weights are those of the last call: an op that keeps them in a form of its own need
  // not convert them again, nor its results back. So bench times a library's FP16 alone.
  bool kept = false;
};

// One layer, or several fused into one. Tensors are [n, size per sample], NHWC inside; all calls
// are asynchronous on their stream and may be captured into a graph, once they have run on that
// stream with a batch of that size. `gradients` is the whole arena. One op serves one batch at a
// time.
class LayerOp {
 public:
  // ends_in_relu: y went through a ReLU last. The gradient dy that the backward calls get is then
  // already gated by it: it is the gradient before that ReLU.
  LayerOp(std::string op_name, int64_t outputs, bool relu_last, bool parameters)
      : name(std::move(op_name)),
        output_size(outputs),
        ends_in_relu(relu_last),
        has_parameters(parameters) {}
  virtual ~LayerOp() = default;

  // For ops that keep weights in a layout of their own: load_weights() fetches them from the arena,
  // before a forward() that is to see them changed; store_gradients() brings into the arena what
  // backward_filter() left in that layout. Each on the stream of the call that it serves.
  virtual void load_weights(const Pass& pass);
  virtual void store_gradients(float* gradients, const Pass& pass);

  virtual void forward(float* y, const float* x, const Pass& pass) = 0;
  // The gradients of the layer's parameters, if it has any. Runs beside backward_data(), and after
  // the backward_filter() of the layers that follow this one.
  virtual void backward_filter(float* gradients, const float* dy, const float* x, const Pass& pass);
  // dx = gradient by x; with `gate`, zero where !(x > 0): the backward pass of the ReLU that made
  // x. x and y are those of the forward pass.
  virtual void backward_data(float* dx, const float* dy, const float* x, const float* y, bool gate,
                             const Pass& pass) = 0;

  const std::string name;
  const int64_t output_size;  // floats per sample
  const bool ends_in_relu;
  const bool has_parameters;
};

inline void LayerOp::load_weights(const Pass&) {}
inline void LayerOp::store_gradients(float*, const Pass&) {}
inline void LayerOp::backward_filter(float*, const float*, const float*, const Pass&) {}

class Backend {
 public:
  virtual ~Backend() = default;
  // In order; layers that change nothing (flatten, dropout at inference) have no op. The model
  // outlives the ops.
  virtual std::vector<std::unique_ptr<LayerOp>> layer_ops(const Model& model, int max_batch,
                                                          Mode mode, uint64_t seed) = 0;
  // probabilities [n,classes] = softmax(logits).
  virtual void softmax(float* probabilities, const float* logits, int n, int classes,
                       cudaStream_t stream) = 0;
};

}  // namespace mnist::MNIST_TARGET
