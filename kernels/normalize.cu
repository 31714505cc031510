// Bytes to floats: gathers the rows of a batch out of the images, x = u8 * scale, and their labels.
// One block per row; a thread brings 16 pixels at a time where rows are aligned to that: one load
// of 16 bytes, four stores of 16. Default network: grid 128, block 64, of which 49 threads bring
// the 784 pixels of an image.
#include "kernels/common.cuh"
#include "kernels/kernels.h"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

inline constexpr int kRowThreads = 64;

// The pixels in a word, the first in its lowest byte.
__device__ inline float4 scaled(uint32_t word, float scale) {
  return make_float4((word & 0xff) * scale, (word >> 8 & 0xff) * scale, (word >> 16 & 0xff) * scale,
                     (word >> 24) * scale);
}

// x [batch, pixels], y [batch] or null, images [source_rows, pixels], labels [source_rows] or null,
// permutation [samples] or null. With `state`, which batch it is depends on that.
__global__ void __launch_bounds__(kRowThreads, 1)
    normalize_kernel(float* x, uint8_t* y, const uint8_t* images, const uint8_t* labels,
                     const int32_t* permutation, const StepState* state, BatchShape shape) {
  const int row = blockIdx.x;
  int64_t source = row;
  bool real = true;
  if (state != nullptr) {
    real = row < batch_rows(*state, shape.batch, shape.ahead);
    if (real) source = permutation[batch_begin(*state, shape.batch, shape.ahead) + row];
  }
  const float scale = real ? shape.scale : 0.0f;
  if (!real) source = 0;

  const uint8_t* from = images + source * shape.pixels;
  float* to = x + int64_t{row} * shape.pixels;
  if (shape.pixels % 16 == 0) {
    for (int i = threadIdx.x * 16; i < shape.pixels; i += kRowThreads * 16) {
      const uint4 u = *reinterpret_cast<const uint4*>(from + i);
      float4* out = reinterpret_cast<float4*>(to + i);
      out[0] = scaled(u.x, scale);
      out[1] = scaled(u.y, scale);
      out[2] = scaled(u.z, scale);
      out[3] = scaled(u.w, scale);
    }
  } else {
    for (int i = threadIdx.x; i < shape.pixels; i += kRowThreads) to[i] = from[i] * scale;
  }
  if (threadIdx.x == 0 && y != nullptr) y[row] = real ? labels[source] : 0;
}

void normalize(float* x, uint8_t* y, const uint8_t* images, const uint8_t* labels,
               const int32_t* permutation, const StepState* state, const BatchShape& shape,
               cudaStream_t stream) {
  CHECK(shape.batch > 0 && shape.pixels > 0 && shape.source_rows > 0);
  CHECK(shape.ahead >= 0);
  CHECK(state != nullptr ? permutation != nullptr : shape.batch <= shape.source_rows);
  CHECK(x != nullptr && images != nullptr);
  CHECK((y == nullptr) == (labels == nullptr));
  launch(normalize_kernel, dim3(unsigned(shape.batch)), dim3(kRowThreads), stream, x, y, images,
         labels, permutation, state, shape);
}

}  // namespace mnist::MNIST_TARGET
