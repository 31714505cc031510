// fused_update_filters: the sums over the images, Adam against double precision, the FP16 copies
// and the count of updates.
#include "kernels/fused/conv_backward.cuh"
#include "kernels/kernels.h"
#include "kernels/step_state.cuh"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using fused::kChannels1, fused::kChannels2, fused::kClasses, fused::kHeadSums, fused::kHidden;
using fused::kPaddedClasses, fused::kSmallSums, fused::kTaps;
using test::from_half, test::half_bits, test::round_to_half;

constexpr float kLearningRate = 0.001f;
constexpr int64_t kIteration = 6;

// ---- the arena ----------------------------------------------------------------------------------
// The tensors with room between them, which has to survive. dense1's filter is not there.
struct Layout {
  size_t size = 8;
  size_t add(int elements) {
    const size_t at = size;
    size += (size_t(elements) + 3) / 4 * 4 + 8;
    return at;
  }
};
constexpr int kConv1Size = kTaps * kChannels1, kDense2Size = kHidden * kClasses;

FusedOffsets offsets(Layout& layout) {
  FusedOffsets at{};
  at.dense2_b = layout.add(kClasses);
  at.conv1_w = layout.add(kConv1Size);
  at.conv2_w = layout.add(kConv2FilterSize);
  at.conv1_b = layout.add(kChannels1);
  at.conv2_b = layout.add(kChannels2);
  at.dense1_b = layout.add(kHidden);
  at.dense2_w = layout.add(kDense2Size);
  return at;
}

struct Inputs {
  int batch, rows;  // rows beyond the batch hold NaN
  std::vector<float> w, m, v;
  std::vector<double> conv2_dw;  // [rows][288 * 64], HWIO; halves
  std::vector<float> small_sums, head_sums;
};

// The gradients are whole numbers, a multiple of `unit`: sums are exact.
Inputs make_inputs(int batch, float unit) {
  Random random;
  Layout layout;
  offsets(layout);
  Inputs in{batch, (batch + 15) / 16 * 16, {}, {}, {}, {}, {}, {}};
  in.w = random.reals(layout.size);
  in.m = random.reals(layout.size);
  in.v = random.reals(layout.size, 0, 1);
  // Weights that were never used: no history, and no gradient in places.
  for (size_t i = 0; i < layout.size; i += 7) in.m[i] = in.v[i] = 0;
  const auto gradients = [&](int rows, int columns) {
    std::vector<float> values = random.whole(size_t(rows) * size_t(columns), -64, 64);
    for (float& value : values) value *= unit;
    return values;
  };
  const std::vector<float> filters = gradients(in.rows, kConv2FilterSize);
  in.conv2_dw.assign(filters.begin(), filters.end());
  in.small_sums = gradients(in.rows, kSmallSums);
  in.head_sums = gradients(1, kHeadSums);
  for (size_t i = size_t(batch) * kConv2FilterSize; i < in.conv2_dw.size(); ++i)
    in.conv2_dw[i] = NAN;
  for (size_t i = size_t(batch) * kSmallSums; i < in.small_sums.size(); ++i) in.small_sums[i] = NAN;
  return in;
}

// ---- the definition -----------------------------------------------------------------------------
// f(offset in the arena, gradient, sum of its terms' magnitudes) for each parameter.
template <typename F>
void for_each_gradient(const Inputs& in, F f) {
  Layout layout;
  const FusedOffsets at = offsets(layout);
  const auto sums = [&](size_t offset, int count, const auto& from, int stride, int first,
                        double scale) {
    for (int i = 0; i < count; ++i) {
      double sum = 0, magnitude = 0;
      for (int image = 0; image < in.batch; ++image) {
        const double v = double(from[size_t(image * stride + first + i)]);
        sum += v;
        magnitude += std::abs(v);
      }
      f(offset + size_t(i), sum * scale / 32768, magnitude * scale / 32768);
    }
  };
  sums(at.conv2_w, kConv2FilterSize, in.conv2_dw, kConv2FilterSize, 0, 1);
  sums(at.conv1_w, kConv1Size, in.small_sums, kSmallSums, 0, 256.0 / 255);
  sums(at.conv1_b, kChannels1, in.small_sums, kSmallSums, kConv1Size, 1);
  sums(at.conv2_b, kChannels2, in.small_sums, kSmallSums, kConv1Size + kChannels1, 1);
  const auto of_head = [&](size_t offset, int count, int first) {
    for (int i = 0; i < count; ++i) {
      const double v = double(in.head_sums[size_t(first + i)]);
      f(offset + size_t(i), v / 32768, std::abs(v) / 32768);
    }
  };
  of_head(at.dense1_b, kHidden, 0);
  of_head(at.dense2_w, kDense2Size, kHidden);
  of_head(at.dense2_b, kClasses, kHidden + kDense2Size);
}

// ---- the kernel ---------------------------------------------------------------------------------
struct Result {
  std::vector<float> w, m, v;
  std::vector<Half> conv1_w, conv2_w, dense2_w;
  StepState state;
  uint64_t saturated;
};

StepState step_state() {
  StepState state = initial_step_state(kIteration, kLearningRate, AdamParams{});
  set_up_update(state);
  return state;
}

Result run(const Inputs& in) {
  DeviceCase device;
  Layout layout;
  FusedMemory memory{};
  memory.at = offsets(layout);
  memory.weights = device.in_out(in.w);
  memory.m = device.in_out(in.m);
  memory.v = device.in_out(in.v);
  memory.conv1_w = device.in_out(std::vector<Half>(16 * kChannels1));
  memory.conv2_w = device.in_out(std::vector<Half>(kConv2FilterSize));
  memory.dense2_w = device.in_out(std::vector<Half>(kHidden * kPaddedClasses));
  std::vector<Half> packed(in.conv2_dw.size());
  for (size_t i = 0; i < packed.size(); ++i) {
    const size_t element = size_t(conv2_dw_element(int(i % kConv2FilterSize)));
    packed[i] = half_bits(in.conv2_dw[i / kConv2FilterSize * kConv2FilterSize + element]);
  }
  memory.conv2_dw = const_cast<Half*>(device.input(packed));
  memory.small_sums = const_cast<float*>(device.input(in.small_sums));
  memory.head_sums = const_cast<float*>(device.input(in.head_sums));
  memory.state = device.in_out(std::vector<StepState>{step_state()});
  memory.metrics = device.in_out(std::vector<MetricSums>(1));
  device.run(
      [&](cudaStream_t stream) { fused_update_filters(memory, in.batch, AdamParams{}, stream); });
  return {device.result(memory.weights),
          device.result(memory.m),
          device.result(memory.v),
          device.result(memory.conv1_w),
          device.result(memory.conv2_w),
          device.result(memory.dense2_w),
          device.result(memory.state).front(),
          device.result(memory.metrics).front().saturated};
}

void require_update(const Result& result, const Inputs& in) {
  reference::Tensor g(in.w.size());
  std::vector<bool> updated(in.w.size());
  for_each_gradient(in, [&](size_t offset, double value, double) {
    g[offset] = value;
    updated[offset] = true;
  });
  reference::Adam want = reference::make_adam(widen(in.w), widen(in.m), widen(in.v));
  want.update(g, double(kLearningRate), kIteration + 1, AdamParams{});
  for (size_t i = 0; i < in.w.size(); ++i) {
    if (updated[i]) continue;  // what is between the tensors
    REQUIRE((result.w[i] == in.w[i] && result.m[i] == in.m[i] && result.v[i] == in.v[i]));
    want.w.value[i] = double(in.w[i]), want.m.value[i] = double(in.m[i]);
    want.v.value[i] = double(in.v[i]);
  }
  const Extents extents = {int64_t(in.w.size())};
  REQUIRE(difference(result.w, want.w, extents) == "");
  REQUIRE(difference(result.m, want.m, extents) == "");
  REQUIRE(difference(result.v, want.v, extents) == "");
}

// The copies are those of the new weights, and what belongs to no weight stays zero.
void require_copies(const Result& result) {
  Layout layout;
  const FusedOffsets at = offsets(layout);
  const auto copy = [&](size_t offset, int i, float scale) {
    return half_bits(round_to_half(double(result.w[offset + size_t(i)] * scale)));
  };
  std::vector<Half> conv1_w(result.conv1_w.size()), conv2_w(result.conv2_w.size());
  std::vector<Half> dense2_w(result.dense2_w.size());
  for (int tap = 0; tap < kTaps; ++tap)
    for (int c = 0; c < kChannels1; ++c)
      conv1_w[size_t((tap / 3 * 4 + tap % 3) * kChannels1 + c)] =
          copy(at.conv1_w, tap * kChannels1 + c, 256.0f / 255);
  for (int i = 0; i < kConv2FilterSize; ++i) conv2_w[size_t(i)] = copy(at.conv2_w, i, 1);
  for (int k = 0; k < kHidden; ++k)
    for (int j = 0; j < kClasses; ++j)
      dense2_w[size_t(k * kPaddedClasses + j)] = copy(at.dense2_w, k * kClasses + j, 1);
  const auto extents = [](const std::vector<Half>& v) { return Extents{int64_t(v.size())}; };
  REQUIRE(inequality(result.conv1_w, conv1_w, extents(conv1_w)) == "");
  REQUIRE(inequality(result.conv2_w, conv2_w, extents(conv2_w)) == "");
  REQUIRE(inequality(result.dense2_w, dense2_w, extents(dense2_w)) == "");
}

TEST_CASE("fused_update_filters sums and updates", "[fused][update_filters]") {
  for (int batch : {1, 5, 16, 96, 128}) {
    DYNAMIC_SECTION(batch << " images") {
      const Inputs in = make_inputs(batch, 16);
      const Result result = run(in);
      require_update(result, in);
      require_copies(result);
      REQUIRE(result.saturated == 0);
      REQUIRE(result.state.iteration == kIteration + 1);
      const StepState before = step_state();
      REQUIRE(result.state.bias_correction == before.bias_correction);
      REQUIRE(result.state.beta1_power == before.beta1_power);
      REQUIRE(result.state.beta2_power == before.beta2_power);
    }
  }
}

// Without history, m is a tenth of the gradient.
TEST_CASE("fused_update_filters adds reals in float", "[fused][update_filters]") {
  Inputs in = make_inputs(128, 1);
  Random random(1);
  for (double& v : in.conv2_dw) v = round_to_half(double(random.real(-500, 500)));
  for (float& v : in.small_sums) v = random.real(-500, 500);
  std::fill(in.m.begin(), in.m.end(), 0.0f);
  const Result result = run(in);
  for_each_gradient(in, [&](size_t offset, double g, double magnitude) {
    const double error = std::abs(double(result.m[offset]) - 0.1 * g);
    if (!(error <= 0.1 * 1e-6 * magnitude)) FAIL(offset << ": " << result.m[offset]);
  });
}

TEST_CASE("fused_update_filters saturates copies and counts them", "[fused][update_filters]") {
  Inputs in = make_inputs(5, 16);
  Layout layout;
  const FusedOffsets at = offsets(layout);
  in.w[at.conv1_w + 17] = 65400;  // times 256/255
  in.w[at.conv2_w + 12345] = -1e6f;
  in.w[at.conv2_w + 12346] = 65503;
  in.w[at.dense2_w + 1279] = 7e4f;
  in.w[at.conv2_b] = in.w[at.dense1_b] = 1e6f;  // have no copy
  const Result result = run(in);
  require_update(result, in);
  require_copies(result);
  REQUIRE(result.saturated == 3);
}

TEST_CASE("fused_update_filters keeps a NaN", "[fused][update_filters]") {
  Inputs in = make_inputs(16, 16);
  in.conv2_dw[3 * kConv2FilterSize + 777] = NAN;
  in.small_sums[5 * kSmallSums + 100] = NAN;
  in.head_sums[kHidden + 11] = NAN;
  const Result result = run(in);
  require_update(result, in);
  Layout layout;
  const FusedOffsets at = offsets(layout);
  REQUIRE(std::isnan(result.w[at.conv2_w + 777]));
  REQUIRE(std::isnan(from_half(result.conv2_w[777])));
  REQUIRE(std::isnan(result.w[at.conv1_w + 100]));
  REQUIRE(std::isnan(from_half(result.conv1_w[4 * kChannels1 + 4])));
  REQUIRE(std::isnan(from_half(result.dense2_w[kPaddedClasses + 1])));
  REQUIRE(result.saturated == 0);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
