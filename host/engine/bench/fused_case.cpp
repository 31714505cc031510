#include "host/engine/bench/fused_case.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace mnist::MNIST_TARGET {

namespace {

using namespace fused;

// One after the other until `size` elements are full.
template <typename T>
void repeat(T* to, size_t size, const std::vector<T>& pattern) {
  std::vector<T> values(size);
  for (size_t i = 0; i < size; i += pattern.size())
    std::copy_n(pattern.begin(), std::min(pattern.size(), size - i), values.begin() + ptrdiff_t(i));
  CUDA_CHECK(cudaMemcpy(to, values.data(), size * sizeof(T), cudaMemcpyHostToDevice));
}

template <typename T, typename Draw>
std::vector<T> drawn(Draw&& draw) {
  std::minstd_rand random(1);
  std::vector<T> values(65'521);  // a prime: rows of a matrix do not begin alike
  for (T& value : values) value = T(draw(random));
  return values;
}

// FP16 of magnitude 0.125 to 2; activations are positive or, half of them, zero.
std::vector<Half> halves(bool activations) {
  return drawn<Half>([=](auto& random) {
    const unsigned magnitude = (12 + random() % 4) << 10 | random() % 1024;
    const bool coin = random() % 2 == 0;
    if (activations) return coin ? magnitude : 0;
    return magnitude | (coin ? 0x8000 : 0);
  });
}

std::vector<uint8_t> bytes_below(unsigned limit) {
  return drawn<uint8_t>([=](auto& random) { return random() % limit; });
}

std::vector<float> floats() {
  return drawn<float>([](auto& random) { return float(random() % 2001) * 1e-3f - 1; });
}

}  // namespace

FusedCase::FusedCase(int images, Mode mode)
    : count_(images),
      model_(parse_arch(kFusedArch)),
      state_(model_, 0, stream_),
      buffers_(model_, state_, state_.metrics.device(), images, mode, stream_),
      batch_(buffers_.add_batch()),
      next_(buffers_.add_batch()),
      images_(size_t(2 * images) * kPixels),
      labels_(size_t(2 * images)),
      order_(size_t(2 * images)),
      logits_(size_t(images) * kClasses) {
  state_.initialize(1, 0, stream_);
  state_.begin_epoch(std::numeric_limits<int32_t>::max(), 0, {}, stream_);
  fused_pack_weights(memory(), stream_);
  stream_.synchronize();  // copies of the host do not wait for this stream
  fill();
}

void FusedCase::fill() {
  static const std::vector<Half> activations = halves(true), gradients = halves(false);
  static const std::vector<uint8_t> pixels = bytes_below(256), labels = bytes_below(kClasses),
                                    codes = bytes_below(5);  // four positions, and none
  static const std::vector<float> sums = floats();
  const auto n = size_t(count_);
  repeat(images_.data(), images_.size(), pixels);
  repeat(labels_.data(), labels_.size(), labels);
  std::vector<int32_t> order(order_.size());
  std::iota(order.begin(), order.end(), 0);
  repeat(order_.data(), order_.size(), order);
  repeat(batch_.pixels, n * kPixels, pixels);
  repeat(batch_.labels, n, labels);
  const FusedMemory& at = memory();
  repeat(at.a2, n * kFlat, activations);
  repeat(at.h, n * kHidden, activations);
  if (at.a1 == nullptr) return;  // the rest is of training
  repeat(at.a1, n * kPositions * kChannels1, activations);
  repeat(at.code1, n * kPositions * kChannels1, codes);
  repeat(at.code2, n * kFlat, codes);
  repeat(at.da2, n * kFlat, gradients);
  repeat(at.head_sums, kHeadSums, sums);
  repeat(at.conv2_dw, n * kTaps * kChannels1 * kChannels2, gradients);
  repeat(at.small_sums, n * kSmallSums, sums);
}

}  // namespace mnist::MNIST_TARGET
