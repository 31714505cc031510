// cuDNN pads both ends of an axis alike. Keras' `same` padding may need one row or column more
// behind than before; such an axis is padded here, in a copy of the input, and cuDNN is told that
// there is no padding.
#pragma once

#include <cuda_runtime.h>
#include <cudnn.h>

#include <vector>

#include "host/engine/backends/cudnn/context.h"
#include "host/engine/device/device_buffer.h"
#include "kernels/check.h"

namespace mnist::MNIST_TARGET {

// One axis of a window operation.
struct WindowAxis {
  int size, window, stride, pad, out;

  // Whether cuDNN's formula for the output size gives `out`.
  bool plain() const {
    const int covered = size + 2 * pad - window;
    return covered >= 0 && covered / stride + 1 == out;
  }
  // As cuDNN gets it.
  int library_pad() const { return plain() ? pad : 0; }
  int library_size() const { return plain() ? size : (out - 1) * stride + window; }
  int before() const { return plain() ? 0 : pad; }
};

class PaddedInput {
 public:
  // x [n,h,w,c] with h and w as the axes say; the padding has the value `border`.
  PaddedInput(const Context& context, int n, const WindowAxis& rows, const WindowAxis& columns,
              int c, float border, Mode mode)
      : tensor_(make_tensor(n, rows.library_size(), columns.library_size(), c)) {
    if (rows.plain() && columns.plain()) return;
    const int height = rows.library_size(), width = columns.library_size();
    CHECK(rows.before() + rows.size <= height && columns.before() + columns.size <= width);
    given_ = make_tensor(n, rows.size, columns.size, c);
    inside_ = make_part(n, rows.size, columns.size, c, height, width);
    offset_ = (size_t(rows.before()) * width + columns.before()) * c;
    const std::vector<float> fill(size_t(n) * height * width * c, border);
    copy_ = DeviceBuffer<float>(fill.size());
    CUDA_CHECK(cudaMemcpyAsync(copy_.data(), fill.data(), copy_.bytes(), cudaMemcpyHostToDevice,
                               context.setup()));
    context.setup().synchronize();
    if (mode == Mode::kTraining) gradient_ = DeviceBuffer<float>(fill.size());
  }

  // Of the input and its gradient, as cuDNN gets them.
  cudnnTensorDescriptor_t tensor() const { return tensor_.get(); }

  // x with its padding; the forward pass fills the copy, which the way back finds again.
  const float* fill(cudnnHandle_t cudnn, const float* x) const {
    if (given_)
      CUDNN_CHECK(cudnnTransformTensor(cudnn, &kOne, given_.get(), x, &kZero, inside_.get(),
                                       copy_.data() + offset_));
    return filled(x);
  }
  const float* filled(const float* x) const { return given_ ? copy_.data() : x; }

  // Where cuDNN is to write the gradient that finish() brings into dx.
  float* gradient(float* dx) const { return given_ ? gradient_.data() : dx; }
  void finish(cudnnHandle_t cudnn, float* dx) const {
    if (given_)
      CUDNN_CHECK(cudnnTransformTensor(cudnn, &kOne, inside_.get(), gradient_.data() + offset_,
                                       &kZero, given_.get(), dx));
  }
  // Of x and dx themselves.
  cudnnTensorDescriptor_t given() const { return given_ ? given_.get() : tensor_.get(); }

 private:
  Tensor tensor_, given_, inside_;  // the last two only where a copy is needed
  size_t offset_ = 0;
  DeviceBuffer<float> copy_, gradient_;
};

}  // namespace mnist::MNIST_TARGET
