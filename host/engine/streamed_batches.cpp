// Batches from the host. The device holds a ring of kChunks x kChunkBatches batches. For each chunk
// the host gathers rows into a pinned buffer, the copy stream carries them over, and events keep
// both from overtaking the compute stream. Batch b of an epoch is at b % (kChunks * kChunkBatches)
// in the ring.
#include <algorithm>
#include <cstring>

#include "host/engine/batch_source.h"
#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/nvtx.h"

namespace mnist::MNIST_TARGET {

namespace {

class StreamedBatches final : public BatchSource {
 public:
  StreamedBatches(const Samples& samples, int batch_size, int pixels)
      : samples_(samples),
        batch_size_(size_t(batch_size)),
        row_bytes_(size_t(pixels)),
        images_(ring_rows() * row_bytes_),
        labels_(ring_rows()),
        host_images_(images_.size()),
        host_labels_(labels_.size()) {}

  BatchRows rows() const override {
    return {.images = images_.data(),
            .labels = labels_.data(),
            .permutation = nullptr,
            .count = int(ring_rows())};
  }

  void begin_epoch(std::span<const int32_t> order, cudaStream_t) override { order_ = order; }

  void provide(int64_t begin, int64_t end, cudaStream_t compute) override {
    const NvtxRange range("send");
    const int slot = slot_of(begin);
    sent_[slot].synchronize();

    const size_t ring_row = size_t(begin % (kChunks * kChunkBatches)) * batch_size_;
    const size_t first = size_t(begin) * batch_size_;
    const size_t last = std::min(size_t(end) * batch_size_, order_.size());
    for (size_t i = first; i < last; ++i) {
      const auto source = size_t(order_[i]);
      const size_t row = ring_row + (i - first);
      std::memcpy(&host_images_[row * row_bytes_], samples_.images + source * row_bytes_,
                  row_bytes_);
      host_labels_[row] = samples_.labels[source];
    }

    consumed_[slot].make_wait(copy_);
    const size_t count = last - first;
    CUDA_CHECK(cudaMemcpyAsync(images_.data() + ring_row * row_bytes_,
                               host_images_.data() + ring_row * row_bytes_, count * row_bytes_,
                               cudaMemcpyHostToDevice, copy_));
    CUDA_CHECK(cudaMemcpyAsync(labels_.data() + ring_row, host_labels_.data() + ring_row, count,
                               cudaMemcpyHostToDevice, copy_));
    sent_[slot].record(copy_);
    sent_[slot].make_wait(compute);
  }

  void release(int64_t begin, cudaStream_t compute) override {
    consumed_[slot_of(begin)].record(compute);
  }

 private:
  static int slot_of(int64_t batch) { return int(batch / kChunkBatches % kChunks); }
  size_t ring_rows() const { return size_t{kChunks * kChunkBatches} * batch_size_; }

  const Samples samples_;
  const size_t batch_size_, row_bytes_;
  std::span<const int32_t> order_;
  Stream copy_;
  DeviceBuffer<uint8_t> images_, labels_;
  PinnedBuffer<uint8_t> host_images_, host_labels_;
  Event sent_[kChunks];      // the pinned chunk has been read
  Event consumed_[kChunks];  // the device's chunk has been read
};

}  // namespace

std::unique_ptr<BatchSource> make_streamed_batches(const Samples& samples, int batch_size,
                                                   int pixels) {
  return std::make_unique<StreamedBatches>(samples, batch_size, pixels);
}

}  // namespace mnist::MNIST_TARGET
