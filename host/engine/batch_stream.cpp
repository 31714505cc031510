#include "host/engine/batch_stream.h"

#include <algorithm>
#include <cstring>

namespace mnist::MNIST_TARGET {

BatchStream::BatchStream(const Samples& samples, int batch_size, int pixels)
    : samples_(samples),
      batch_size_(batch_size),
      pixels_(pixels),
      images_(size_t(rows()) * size_t(pixels)),
      labels_(size_t(rows())),
      host_images_(images_.size()),
      host_labels_(labels_.size()) {}

void BatchStream::send(std::span<const int32_t> order, int64_t begin, int64_t end,
                       cudaStream_t compute) {
  const int place = chunk(begin);
  sent_[place].synchronize();

  const size_t ring_row = size_t(begin % (kChunks * kChunkSteps)) * size_t(batch_size_);
  const size_t first = size_t(begin * batch_size_);
  const size_t last = std::min(size_t(end * batch_size_), order.size());
  const size_t row_bytes = size_t(pixels_);
  for (size_t i = first; i < last; ++i) {
    const auto source = size_t(order[i]);
    const size_t row = ring_row + (i - first);
    std::memcpy(&host_images_[row * row_bytes], samples_.images + source * row_bytes, row_bytes);
    host_labels_[row] = samples_.labels[source];
  }

  consumed_[place].make_wait(copy_);
  const size_t rows = last - first;
  CUDA_CHECK(cudaMemcpyAsync(images_.data() + ring_row * row_bytes,
                             host_images_.data() + ring_row * row_bytes, rows * row_bytes,
                             cudaMemcpyHostToDevice, copy_));
  CUDA_CHECK(cudaMemcpyAsync(labels_.data() + ring_row, host_labels_.data() + ring_row, rows,
                             cudaMemcpyHostToDevice, copy_));
  sent_[place].record(copy_);
  sent_[place].make_wait(compute);
}

void BatchStream::release(int64_t begin, cudaStream_t compute) {
  consumed_[chunk(begin)].record(compute);
}

}  // namespace mnist::MNIST_TARGET
