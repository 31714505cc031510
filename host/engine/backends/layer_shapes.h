// Layers of a model as operations see them: shapes for n samples, and where their parameters
// begin.
#pragma once

#include <cstddef>
#include <optional>

#include "host/model/model.h"
#include "kernels/shapes.h"

namespace mnist {

inline ConvShape conv_shape(const Layer& layer, int n) {
  return {.n = n,
          .h = layer.input.h,
          .w = layer.input.w,
          .c = layer.input.c,
          .k = layer.units,
          .r = layer.window_h,
          .s = layer.window_w,
          .stride_h = layer.stride_h,
          .stride_w = layer.stride_w,
          .pad_h = layer.pad_h,
          .pad_w = layer.pad_w,
          .p = layer.output.h,
          .q = layer.output.w};
}

inline PoolShape pool_shape(const Layer& layer, int n) {
  return {.n = n,
          .h = layer.input.h,
          .w = layer.input.w,
          .c = layer.input.c,
          .window_h = layer.window_h,
          .window_w = layer.window_w,
          .stride_h = layer.stride_h,
          .stride_w = layer.stride_w,
          .pad_h = layer.pad_h,
          .pad_w = layer.pad_w,
          .p = layer.output.h,
          .q = layer.output.w};
}

inline DenseShape dense_shape(const Layer& layer, int n) {
  return {.n = n, .in = int(layer.input.size()), .out = layer.units};
}

// Gathers batches of n images, bytes to [0,1], out of `rows`.
inline BatchShape batch_shape(const Model& model, int n, int rows) {
  return {
      .batch = n, .pixels = int(model.input.size()), .source_rows = rows, .scale = 1.0f / 255.0f};
}

// Where the parameters of a layer that has weights begin in the arenas.
class ParameterOffsets {
 public:
  // In floats.
  ParameterOffsets(size_t kernel, std::optional<size_t> bias) : kernel_(kernel), bias_(bias) {}
  ParameterOffsets(const Model& model, int layer) : kernel_(model.find(layer, "kernel")->offset) {
    if (const Parameter* bias = model.find(layer, "bias")) bias_ = bias->offset;
  }

  template <typename T>
  T* kernel_in(T* arena) const {
    return arena + kernel_;
  }
  template <typename T>
  T* bias_in(T* arena) const {  // null: the layer has none
    return bias_ ? arena + *bias_ : nullptr;
  }
  bool has_bias() const { return bias_.has_value(); }

 private:
  size_t kernel_;
  std::optional<size_t> bias_;
};

}  // namespace mnist
