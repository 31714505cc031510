// The FP16 copies of the weights: every element where it belongs, rounded as by definition, and the
// paddings zero.
#include "kernels/fused/fused.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using test::half_bits;
using test::round_to_half;

struct Copies {
  std::vector<uint16_t> conv1, conv2, dense1, dense2;
  unsigned long long saturated;
};

struct Weights {
  std::vector<float> conv1, conv2, dense1, dense2;
};

Weights random_weights() {
  Random random;
  return {random.reals(9 * 32), random.reals(288 * 64), random.reals(1600 * 128),
          random.reals(128 * 10)};
}

Copies run(const Weights& weights) {
  DeviceCase device;
  FusedMemory memory{};
  std::vector<float> arena;
  const auto append = [&](const std::vector<float>& tensor) {
    arena.resize((arena.size() + 3) / 4 * 4 + 4, 77.f);  // something lies between them
    const size_t at = arena.size();
    arena.insert(arena.end(), tensor.begin(), tensor.end());
    return at;
  };
  memory.at.conv1_w = append(weights.conv1);
  memory.at.conv2_w = append(weights.conv2);
  memory.at.dense1_w = append(weights.dense1);
  memory.at.dense2_w = append(weights.dense2);
  memory.weights = const_cast<float*>(device.input(arena));
  memory.conv1_w = device.output<uint16_t>(16 * 32);
  memory.conv2_w = device.output<uint16_t>(288 * 64);
  memory.dense1_w = device.output<uint16_t>(1600 * 128);
  memory.dense2_w = device.output<uint16_t>(128 * 16);
  memory.metrics = device.in_out(std::vector<MetricSums>(1));
  device.run([&](cudaStream_t stream) { fused_pack_weights(memory, stream); });
  return {device.result(memory.conv1_w), device.result(memory.conv2_w),
          device.result(memory.dense1_w), device.result(memory.dense2_w),
          device.result(memory.metrics).front().saturated};
}

// The product with the scale is a float before it is a half.
uint16_t bits(float w, float scale = 1) {
  return half_bits(round_to_half(double(w * scale)));
}

void require_right(const Weights& weights, const Copies& copies) {
  std::vector<uint16_t> conv1(16 * 32), conv2, dense1, dense2(128 * 16);
  for (size_t r = 0; r < 3; ++r)
    for (size_t s = 0; s < 3; ++s)
      for (size_t c = 0; c < 32; ++c)
        conv1[(4 * r + s) * 32 + c] = bits(weights.conv1[(3 * r + s) * 32 + c], 256.f / 255.f);
  for (float w : weights.conv2) conv2.push_back(bits(w));
  for (float w : weights.dense1) dense1.push_back(bits(w));
  for (size_t row = 0; row < 128; ++row)
    for (size_t j = 0; j < 10; ++j) dense2[row * 16 + j] = bits(weights.dense2[row * 10 + j]);
  REQUIRE(inequality(copies.conv1, conv1, {16, 32}) == "");
  REQUIRE(inequality(copies.conv2, conv2, {288, 64}) == "");
  REQUIRE(inequality(copies.dense1, dense1, {1600, 128}) == "");
  REQUIRE(inequality(copies.dense2, dense2, {128, 16}) == "");
}

TEST_CASE("fused_pack_weights", "[fused][pack_weights]") {
  Weights weights = random_weights();
  const Copies copies = run(weights);
  require_right(weights, copies);
  REQUIRE(copies.saturated == 0);
}

TEST_CASE("fused_pack_weights: every magnitude", "[fused][pack_weights]") {
  Weights weights = random_weights();
  for (auto tensor : {&weights.conv1, &weights.conv2, &weights.dense1, &weights.dense2})
    for (size_t i = 0; i < tensor->size(); ++i)
      (*tensor)[i] = std::ldexp((*tensor)[i], int(i % 42) - 27);  // from nothing to 2^14
  weights.dense1[3] = 1 + 0x1p-11f;                               // ties
  weights.dense1[4] = 1 + 3 * 0x1p-11f;
  require_right(weights, run(weights));
}

TEST_CASE("fused_pack_weights saturates, counts and keeps NaN", "[fused][pack_weights]") {
  Weights weights = random_weights();
  weights.conv1[0] = -65300;  // beyond 65504 when it is scaled
  weights.conv1[287] = 65000;
  weights.conv2[1] = 1e9f;
  weights.dense1[2] = INFINITY;
  weights.dense1[3] = -INFINITY;
  weights.dense1[4] = 65504;
  weights.dense1[5] = 65505;
  weights.dense2[1279] = -1e30f;
  Copies copies = run(weights);
  require_right(weights, copies);
  REQUIRE(copies.saturated == 6);

  weights.conv1[100] = weights.conv2[101] = weights.dense1[2] = weights.dense2[1278] = NAN;
  copies = run(weights);
  REQUIRE(copies.saturated == 5);
  for (uint16_t half :
       {copies.conv1[4 * 32 + 4], copies.conv2[101], copies.dense1[2], copies.dense2[127 * 16 + 8]})
    REQUIRE(std::isnan(test::from_half(half)));
}

TEST_CASE("fused_pack_weights refuses what it cannot do", "[fused][pack_weights]") {
  DeviceCase device;
  FusedMemory good{};
  good.weights = device.output<float>(4);
  good.conv1_w = good.conv2_w = good.dense1_w = good.dense2_w = device.output<uint16_t>(4);
  good.metrics = device.in_out(std::vector<MetricSums>(1));
  const auto require_throws = [&](const FusedMemory& bad) {
    REQUIRE_THROWS_AS(fused_pack_weights(bad, device.stream()), std::invalid_argument);
  };
  for (auto member : {&FusedMemory::conv1_w, &FusedMemory::conv2_w, &FusedMemory::dense1_w,
                      &FusedMemory::dense2_w}) {
    FusedMemory bad = good;
    bad.*member = nullptr;
    require_throws(bad);
  }
  FusedMemory bad = good;
  bad.weights = nullptr;
  require_throws(bad);
  bad = good;
  bad.metrics = nullptr;
  require_throws(bad);
  bad = good;
  bad.at.dense1_w = 6;
  require_throws(bad);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
