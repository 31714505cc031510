#include "host/engine/fused_buffers.h"

namespace mnist::MNIST_TARGET {

namespace {

FusedOffsets offsets_of(const Model& model) {
  const auto offset = [&](size_t parameter) { return model.parameters[parameter].offset; };
  return {.conv1_w = offset(0),
          .conv1_b = offset(1),
          .conv2_w = offset(2),
          .conv2_b = offset(3),
          .dense1_w = offset(4),
          .dense1_b = offset(5),
          .dense2_w = offset(6),
          .dense2_b = offset(7)};
}

constexpr size_t whole_tiles(int batch) {
  return (size_t(batch) + 15) / 16 * 16;
}

}  // namespace

bool is_fused_network(const Model& model) {
  return model.input == kMnistExtent && arch_string(model) == kFusedArch;
}

FusedBuffers::FusedBuffers(const Model& model, const TrainingState& state, MetricSums* metrics,
                           int batch, Mode mode, cudaStream_t stream)
    : rows_(whole_tiles(batch)), stream_(stream) {
  using namespace fused;
  memory_.weights = state.weights.data();
  memory_.at = offsets_of(model);
  memory_.conv1_w = zeros<Half>(16 * kChannels1);
  memory_.conv2_w = zeros<Half>(kTaps * kChannels1 * kChannels2);
  memory_.dense1_w = zeros<Half>(kFlat * kHidden);
  memory_.dense2_w = zeros<Half>(kHidden * kPaddedClasses);
  memory_.a2 = zeros<Half>(rows_ * kFlat);
  memory_.h = zeros<Half>(rows_ * kHidden);
  memory_.metrics = metrics;
  if (mode == Mode::kInference) return;

  memory_.m = state.m.data();
  memory_.v = state.v.data();
  memory_.a1 = zeros<Half>(rows_ * kPositions * kChannels1);
  memory_.code1 = zeros<uint8_t>(rows_ * kPositions * kChannels1);
  memory_.code2 = zeros<uint8_t>(rows_ * kFlat);
  memory_.da2 = zeros<Half>(rows_ * kFlat);
  memory_.head_sums = zeros<float>(kHeadSums);
  memory_.conv2_dw = zeros<Half>(rows_ * kTaps * kChannels1 * kChannels2);
  memory_.small_sums = zeros<float>(rows_ * kSmallSums);
  memory_.state = state.step.device();
}

FusedBatch FusedBuffers::add_batch() {
  return {.pixels = zeros<uint8_t>(rows_ * fused::kPixels), .labels = zeros<uint8_t>(rows_)};
}

template <typename T>
T* FusedBuffers::zeros(size_t count) {
  const auto& buffer = buffers_.emplace_back(count * sizeof(T));
  CUDA_CHECK(cudaMemsetAsync(buffer.data(), 0, buffer.bytes(), stream_));
  return reinterpret_cast<T*>(buffer.data());
}

}  // namespace mnist::MNIST_TARGET
