// Tensors as cuDNN and cuBLASLt get them: those of the engine, packed and float32, or copies.
//
// FP16. Operands are rounded to nearest in the copy; what is beyond 65504 becomes infinite.
// Gradients are there kGradientScale times as large, a power of two, so that scaling is exact.
// cudnnTransformTensor converts between FP16 and float32, as oneDNN's backend for NVIDIA uses it.
//
// Padding. cuDNN pads both ends of an axis alike. Keras' `same` padding may need one row or column
// more after than before; such an axis is padded here, and cuDNN is told that there is no padding.
#pragma once

#include <cuda_runtime.h>
#include <cudnn.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/backends/cudnn/context.h"
#include "host/engine/device/device_buffer.h"
#include "kernels/check.h"

namespace mnist::MNIST_TARGET::cudnn {

// FP16 rounds what is below 6e-5 more coarsely, and 3e-8 to zero. The loss is the mean of the
// batch's: elements of its gradients are far below 1, and finite here up to 16.
inline constexpr float kGradientScale = 4096, kGradientUnscale = 1 / kGradientScale;

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
// An axis that needs no padding.
inline WindowAxis whole_axis(int size) {
  return {size, 1, 1, 0, size};
}

class LibraryTensor {
 public:
  enum class Content { kValues, kGradient };

  // [n,h,w,c] with h and w as the axes say. The padding of values is `border`, in FP16 zero; that
  // of a gradient is what the library writes there.
  LibraryTensor(const Context& context, Precision precision, Content content, int n,
                const WindowAxis& rows, const WindowAxis& columns, int c, float border = 0)
      : tensor_(make_tensor(n, rows.library_size(), columns.library_size(), c, precision)) {
    const bool padded = !rows.plain() || !columns.plain();
    if (!padded && precision == Precision::kFloat) return;
    const int height = rows.library_size(), width = columns.library_size();
    CHECK(rows.before() + rows.size <= height && columns.before() + columns.size <= width);
    original_ = make_tensor(n, rows.size, columns.size, c);
    inside_ = make_part(n, rows.size, columns.size, c, height, width, precision);
    offset_ = (size_t(rows.before()) * width + columns.before()) * c * size_of(precision);
    scaled_ = precision == Precision::kHalf && content == Content::kGradient;
    const size_t size = size_t(n) * height * width * c;
    copy_ = DeviceBuffer<std::byte>(size * size_of(precision));
    if (padded && content == Content::kValues) fill(context, precision, size, border);
  }

  // [n,h,w,c] without padding.
  LibraryTensor(const Context& context, Precision precision, Content content, int n, int h, int w,
                int c)
      : LibraryTensor(context, precision, content, n, whole_axis(h), whole_axis(w), c) {}

  // The descriptors of the library's tensor and of the engine's.
  cudnnTensorDescriptor_t tensor() const { return tensor_.get(); }
  cudnnTensorDescriptor_t original() const { return original_ ? original_.get() : tensor_.get(); }

  // `values` as the library reads them. The copy stays for later calls of get().
  const void* copy_in(Context& context, const float* values, const Pass& pass) const {
    if (original_ && !pass.kept)
      CUDNN_CHECK(cudnnTransformTensor(context.on(pass.stream), scaled_ ? &kGradientScale : &kOne,
                                       original_.get(), values, &kZero, inside_.get(),
                                       copy_.data() + offset_));
    return get(values);
  }
  const void* get(const float* values) const {
    return original_ ? static_cast<const void*>(copy_.data()) : values;
  }

  // Where the library is to write what copy_out() brings into `values`.
  void* place(float* values) const { return original_ ? static_cast<void*>(copy_.data()) : values; }
  void copy_out(Context& context, float* values, const Pass& pass) const {
    if (original_ && !pass.kept)
      CUDNN_CHECK(cudnnTransformTensor(context.on(pass.stream), scaled_ ? &kGradientUnscale : &kOne,
                                       inside_.get(), copy_.data() + offset_, &kZero,
                                       original_.get(), values));
  }

 private:
  void fill(const Context& context, Precision precision, size_t size, float border) {
    CHECK(precision == Precision::kFloat || border == 0);
    // The zero of FP16 has the bits of half a float32's.
    const std::vector<float> values(precision == Precision::kFloat ? size : (size + 1) / 2, border);
    CUDA_CHECK(cudaMemcpyAsync(copy_.data(), values.data(), copy_.bytes(), cudaMemcpyHostToDevice,
                               context.setup()));
    context.setup().synchronize();
  }

  Tensor tensor_, original_, inside_;  // the last two only where there is a copy
  bool scaled_ = false;
  size_t offset_ = 0;  // bytes
  DeviceBuffer<std::byte> copy_;
};

}  // namespace mnist::MNIST_TARGET::cudnn
