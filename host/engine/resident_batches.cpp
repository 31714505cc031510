// Batches from a training set that is uploaded once: the step gathers them by the permutation.
#include "host/engine/batch_source.h"
#include "host/engine/device/device_buffer.h"

namespace mnist::MNIST_TARGET {

namespace {

class ResidentBatches final : public BatchSource {
 public:
  ResidentBatches(const Samples& samples, int pixels, cudaStream_t compute)
      : images_(size_t(samples.count) * size_t(pixels)),
        labels_(size_t(samples.count)),
        permutation_(size_t(samples.count)) {
    CUDA_CHECK(cudaMemcpyAsync(images_.data(), samples.images, images_.bytes(),
                               cudaMemcpyHostToDevice, compute));
    CUDA_CHECK(cudaMemcpyAsync(labels_.data(), samples.labels, labels_.bytes(),
                               cudaMemcpyHostToDevice, compute));
  }

  BatchRows rows() const override {
    return {.images = images_.data(),
            .labels = labels_.data(),
            .permutation = permutation_.data(),
            .count = int(labels_.size())};
  }

  void begin_epoch(std::span<const int32_t> order, cudaStream_t compute) override {
    CUDA_CHECK(cudaMemcpyAsync(permutation_.data(), order.data(), order.size_bytes(),
                               cudaMemcpyHostToDevice, compute));
  }
  void provide(int64_t, int64_t, cudaStream_t) override {}
  void release(int64_t, cudaStream_t) override {}

 private:
  const DeviceBuffer<uint8_t> images_, labels_;
  const DeviceBuffer<int32_t> permutation_;
};

}  // namespace

std::unique_ptr<BatchSource> make_resident_batches(const Samples& samples, int pixels,
                                                   cudaStream_t compute) {
  return std::make_unique<ResidentBatches>(samples, pixels, compute);
}

}  // namespace mnist::MNIST_TARGET
