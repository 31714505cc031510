// One operation as every backend has it, apart from a network: a layer, a convolution with the
// pooling after it, or softmax. bench --compare times backends on these, check-backends checks
// them.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/device/device_buffer.h"
#include "host/model/model.h"

namespace mnist::MNIST_TARGET {

struct OpCase {
  std::string name;   // conv2d, conv2d_pool, maxpool2d, dense, softmax
  std::string shape;  // "128x28x28x1 conv:32x3,pool:2": batch and input, the layers as in --arch
  Model model;        // the layers alone; none: softmax over input.c classes
  int batch = 0;      // the largest

  bool is_softmax() const { return model.layers.empty(); }
  bool has_parameters() const { return model.arena_size > 0; }
  bool is_pair() const { return model.layers.size() > 1; }  // a convolution and a pooling
  const Extent& output() const { return is_softmax() ? model.input : model.layers.back().output; }
};

// `layers` as in --arch: one layer, "conv:...,pool:...", or "softmax". A pair is for windows of
// 2x2, after a convolution with ReLU.
OpCase make_op_case(int batch, const Extent& input, const std::string& layers);

// An operation on one backend: one op, or two in a row where the backend does not fuse them.
class CaseOnBackend {
 public:
  // The backend outlives this. Memory for batches of up to op_case.batch.
  CaseOnBackend(Backend& backend, const OpCase& op_case);

  // As LayerOp::load_weights() and store_gradients().
  void load_weights(const Pass& pass);
  void store_gradients(float* gradients, const Pass& pass);

  // Of softmax, x are the logits and y the probabilities; there is no backward pass.
  void forward(float* y, const float* x, const Pass& pass);
  // The gradient by the output of the first op, for the two calls below: dy itself, if that op is
  // the only one. After forward(); x and y are those of the forward pass everywhere.
  const float* back_to_first(const float* dy, const float* y, const Pass& pass);
  void backward_filter(float* gradients, const float* first_dy, const float* x, const Pass& pass);
  void backward_data(float* dx, const float* first_dy, const float* x, const float* y, bool gate,
                     const Pass& pass);

 private:
  Backend& backend_;
  const OpCase case_;
  const std::vector<std::unique_ptr<LayerOp>> ops_;
  DeviceBuffer<float> between_, between_gradient_;  // of two ops
};

}  // namespace mnist::MNIST_TARGET
