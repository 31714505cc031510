// cuDNN pads both ends of an axis alike. Keras' `same` padding may need one row or column more
// after than before; such an axis is padded here, in a copy of the input, and cuDNN is told that
// there is no padding.
#pragma once

#include <cuda_runtime.h>
#include <cudnn.h>

#include <vector>

#include "host/engine/backends/cudnn/context.h"
#include "host/engine/device/device_buffer.h"
#include "kernels/check.h"

namespace mnist::MNIST_TARGET::cudnn {

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
    original_ = make_tensor(n, rows.size, columns.size, c);
    inside_ = make_part(n, rows.size, columns.size, c, height, width);
    offset_ = (size_t(rows.before()) * width + columns.before()) * c;
    const std::vector<float> border_values(size_t(n) * height * width * c, border);
    copy_ = DeviceBuffer<float>(border_values.size());
    CUDA_CHECK(cudaMemcpyAsync(copy_.data(), border_values.data(), copy_.bytes(),
                               cudaMemcpyHostToDevice, context.setup()));
    context.setup().synchronize();
    if (mode == Mode::kTraining) gradient_ = DeviceBuffer<float>(border_values.size());
  }

  // The descriptor of the padded input and of its gradient, as cuDNN gets them.
  cudnnTensorDescriptor_t tensor() const { return tensor_.get(); }

  // x with its padding; the forward pass fills the copy, which the backward pass finds again.
  const float* copy_in(cudnnHandle_t cudnn, const float* x) const {
    if (original_)
      CUDNN_CHECK(cudnnTransformTensor(cudnn, &kOne, original_.get(), x, &kZero, inside_.get(),
                                       copy_.data() + offset_));
    return padded(x);
  }
  const float* padded(const float* x) const { return original_ ? copy_.data() : x; }

  // Where cuDNN is to write the gradient that copy_out() copies into dx.
  float* padded_gradient(float* dx) const { return original_ ? gradient_.data() : dx; }
  void copy_out(cudnnHandle_t cudnn, float* dx) const {
    if (original_)
      CUDNN_CHECK(cudnnTransformTensor(cudnn, &kOne, inside_.get(), gradient_.data() + offset_,
                                       &kZero, original_.get(), dx));
  }
  // The descriptor of x and dx themselves.
  cudnnTensorDescriptor_t original() const { return original_ ? original_.get() : tensor_.get(); }

 private:
  Tensor tensor_, original_, inside_;  // the last two only where a copy is needed
  size_t offset_ = 0;
  DeviceBuffer<float> copy_, gradient_;
};

}  // namespace mnist::MNIST_TARGET::cudnn
