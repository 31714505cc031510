// Layers of a model as shapes of operations on n samples.
#pragma once

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

}  // namespace mnist
