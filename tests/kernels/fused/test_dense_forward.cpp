// h of the FP16 step: values, padding, saturation, NaN; what training does beside it.
#include "kernels/fused/fused.h"
#include "kernels/step_state.cuh"
#include "tests/kernels/fused/gathered.h"
#include "tests/kernels/fused/rounded.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using namespace test;
using fused::kFlat, fused::kHidden, fused::kPixels;

struct Layer {
  explicit Layer(int n, float most_w = 0.1f) : n(n) {
    Random random{uint64_t(n)};
    a2 = rectified_halves(random, n, kFlat);
    w = halves_of(random.reals(size_t(kFlat) * kHidden, -most_w, most_w));
    weights = random.reals(4 + kHidden);
  }

  // h, and how many numbers saturated.
  std::pair<std::vector<uint16_t>, unsigned long long> run() const {
    DeviceCase device;
    FusedMemory memory{};
    describe(device, memory);
    device.run([&](cudaStream_t stream) { fused_dense_forward(memory, n, stream); });
    return {device.result(memory.h), device.result(memory.metrics).front().saturated};
  }

  void describe(DeviceCase& device, FusedMemory& memory) const {
    // Inputs: the case sees to it that they do not change.
    memory.a2 = const_cast<uint16_t*>(device.input(a2));
    memory.dense1_w = const_cast<uint16_t*>(device.input(w));
    memory.weights = const_cast<float*>(device.input(weights));
    memory.at.dense1_b = 4;
    memory.h = device.in_out(std::vector<uint16_t>(padded(n) * kHidden));
    memory.metrics = device.in_out(std::vector<MetricSums>(1));
  }

  std::vector<Uncertain> expected() const {
    const auto x = values_of(a2), filter = values_of(w);
    std::vector<Uncertain> h(padded(n) * kHidden);
    std::vector<Sum> sums(kHidden);
    for (size_t row = 0; row < size_t(n); ++row) {
      for (size_t j = 0; j < kHidden; ++j) {
        sums[j] = {};
        sums[j].add(weights[4 + j], 1);
      }
      for (size_t k = 0; k < kFlat; ++k)
        for (size_t j = 0; j < kHidden; ++j)
          sums[j].add(x[row * kFlat + k], filter[k * kHidden + j]);
      for (size_t j = 0; j < kHidden; ++j) {
        const Uncertain sum = sums[j].result();
        h[row * kHidden + j] = test::round_to_half({std::max(0.0, sum.value), sum.error});
      }
    }
    return h;
  }

  int n;
  std::vector<uint16_t> a2, w;
  std::vector<float> weights;
};

TEST_CASE("fused dense_forward", "[fused][fused_dense]") {
  for (int n : {1, 5, 16, 96, 128, 150}) {
    DYNAMIC_SECTION(n << " rows") {
      const Layer layer(n);
      const auto [h, saturated] = layer.run();
      REQUIRE(test::difference(values_of(h), layer.expected()) == "");
      REQUIRE(saturated == 0);
    }
  }
}

TEST_CASE("fused dense_forward saturates, and counts it", "[fused][fused_dense]") {
  const Layer layer(19, 5000);
  const auto [h, saturated] = layer.run();
  const auto want = layer.expected();
  REQUIRE(test::difference(values_of(h), want) == "");
  const auto beyond = std::count_if(want.begin(), want.end(),
                                    [](const Uncertain& v) { return v.value == kLargestHalf; });
  REQUIRE(beyond > 10);
  REQUIRE(saturated == (unsigned long long)(beyond));
}

TEST_CASE("fused dense_forward keeps a NaN", "[fused][fused_dense]") {
  Layer layer(20);
  layer.a2[17 * kFlat + 1599] = 0x7e00;
  const auto [h, saturated] = layer.run();
  for (size_t i = 0; i < h.size(); ++i) REQUIRE(std::isnan(from_half(h[i])) == (i / kHidden == 17));
  REQUIRE(saturated == 0);
}

TEST_CASE("fused dense_forward of training", "[fused][fused_dense]") {
  for (int batch : {1, 5, 16, 96, 128}) {
    DYNAMIC_SECTION(batch << " rows") {
      const Layer layer(batch);
      Random random;
      const int samples = 2 * batch + (batch + 1) / 2;  // the batch after the second one is short
      const auto images = random.bytes(size_t(samples) * kPixels);
      const auto labels = random.bytes(size_t(samples), 1, 9);
      std::vector<int32_t> order(static_cast<size_t>(samples));
      for (int i = 0; i < samples; ++i) order[size_t(i)] = samples - 1 - i;
      StepState before{101, 100, samples, 0.001f, 0.9f, 0.999f, 0.5, 0.25, 0};

      DeviceCase device;
      FusedMemory memory{};
      layer.describe(device, memory);
      memory.state = device.in_out(std::vector<StepState>{before});
      const FusedBatch next = {device.output<uint8_t>(size_t(batch) * kPixels),
                               device.output<uint8_t>(size_t(batch))};
      const FusedSource source = {device.input(images), device.input(labels), device.input(order)};
      device.run([&](cudaStream_t stream) {
        fused_dense_forward_training(memory, next, source, batch, stream);
      });
      REQUIRE(device.result(memory.h) == layer.run().first);

      const StepState after = device.result(memory.state).front();
      set_up_update(before);
      REQUIRE(after.beta1_power == before.beta1_power);
      REQUIRE(after.beta2_power == before.beta2_power);
      REQUIRE(after.bias_correction == before.bias_correction);
      REQUIRE(after.iteration == 101);

      REQUIRE(gather_difference(device.result(next.pixels), device.result(next.labels), images,
                                labels, order, 2 * batch) == "");
    }
  }
}

TEST_CASE("fused dense_forward refuses other batches", "[fused][fused_dense]") {
  const FusedMemory memory{};
  uint8_t byte = 0;
  const int32_t sample = 0;
  const FusedBatch next = {&byte, &byte};
  const FusedSource source = {&byte, &byte, &sample};
  REQUIRE_THROWS_AS(fused_dense_forward(memory, 0, nullptr), std::invalid_argument);
  for (int batch : {0, -1, kFusedBatch + 1})
    REQUIRE_THROWS_AS(fused_dense_forward_training(memory, next, source, batch, nullptr),
                      std::invalid_argument);
  REQUIRE_THROWS_AS(fused_dense_forward_training(memory, {}, source, 1, nullptr),
                    std::invalid_argument);
  REQUIRE_THROWS_AS(fused_dense_forward_training(memory, next, {}, 1, nullptr),
                    std::invalid_argument);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
