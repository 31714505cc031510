#include "host/engine/training_set.h"

#include <algorithm>

namespace mnist::MNIST_TARGET {

TrainingSet::TrainingSet(const Samples& samples, int pixels, bool resident, cudaStream_t compute)
    : order_(size_t(samples.count)) {
  const auto count = size_t(samples.count);
  const size_t bytes = count * size_t(pixels);
  if (resident) {
    images_ = DeviceBuffer<uint8_t>(bytes);
    labels_ = DeviceBuffer<uint8_t>(count);
    CUDA_CHECK(
        cudaMemcpyAsync(images_.data(), samples.images, bytes, cudaMemcpyHostToDevice, compute));
    CUDA_CHECK(
        cudaMemcpyAsync(labels_.data(), samples.labels, count, cudaMemcpyHostToDevice, compute));
  } else {
    pinned_images_ = PinnedBuffer<uint8_t>(bytes);
    pinned_labels_ = PinnedBuffer<uint8_t>(count);
    std::copy_n(samples.images, bytes, pinned_images_.data());
    std::copy_n(samples.labels, count, pinned_labels_.data());
  }
}

TrainingRows TrainingSet::rows() const {
  const bool resident = images_.data() != nullptr;
  return {.images = resident ? images_.data() : pinned_images_.data(),
          .labels = resident ? labels_.data() : pinned_labels_.data(),
          .order = order_.data(),
          .count = int(order_.size())};
}

void TrainingSet::set_order(std::span<const int32_t> order) {
  std::copy(order.begin(), order.end(), order_.data());
}

}  // namespace mnist::MNIST_TARGET
