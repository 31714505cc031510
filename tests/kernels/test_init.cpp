// Glorot-uniform weights: the documented bits, within the bounds, evenly spread.
#include "kernels/kernels.h"
#include "kernels/philox.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

std::vector<float> run(size_t size, int64_t fan_in, int64_t fan_out, uint64_t seed,
                       uint32_t tensor) {
  DeviceCase device;
  float* w = device.output<float>(size);
  device.run(
      [&](cudaStream_t stream) { glorot_uniform(w, size, fan_in, fan_out, seed, tensor, stream); });
  return device.result(w);
}

TEST_CASE("glorot_uniform gives the documented bits", "[init]") {
  Random random;
  for (size_t size : {1, 3, 4, 5, 255, 257, 1023, 18432, 204800}) {
    DYNAMIC_SECTION(size << " weights") {
      const uint64_t seed = random.next();
      const uint32_t tensor = uint32_t(random.next());
      const int64_t fan_in = random.integer(1, 3000), fan_out = random.integer(1, 3000);
      std::vector<float> want;
      for (size_t i = 0; i < size; ++i)
        want.push_back(reference::glorot_uniform(i, fan_in, fan_out, seed, tensor));
      REQUIRE(inequality(run(size, fan_in, fan_out, seed, tensor), want, {int64_t(size)}) == "");
    }
  }
}

TEST_CASE("glorot_uniform is uniform within its bounds", "[init]") {
  Random random;
  struct Fan {
    int64_t in, out;
    double limit;
  };
  // The default model's layers and their limits.
  for (const Fan& fan : {Fan{9, 288, 0.14213}, Fan{288, 576, 0.08333}, Fan{1600, 128, 0.05893},
                         Fan{128, 10, 0.20851}}) {
    const size_t size = 40000;
    const auto w = run(size, fan.in, fan.out, random.next(), kInitStream + 2);
    const auto [least, largest] = std::minmax_element(w.begin(), w.end());
    REQUIRE(double(*least) >= -fan.limit * 1.0001);
    REQUIRE(double(*largest) < fan.limit * 1.0001);
    REQUIRE(double(*least) < -fan.limit * 0.998);
    REQUIRE(double(*largest) > fan.limit * 0.998);
    double sum = 0, squares = 0;
    for (float value : w) {
      sum += double(value) / fan.limit;
      squares += double(value) / fan.limit * double(value) / fan.limit;
    }
    // Mean 0 and variance 1/3 of a uniform number in [-1,1), within five standard deviations.
    REQUIRE(std::fabs(sum / double(size)) <= 5 * std::sqrt(1.0 / 3 / double(size)));
    REQUIRE(std::fabs(squares / double(size) - 1.0 / 3) <= 5 * std::sqrt(4.0 / 45 / double(size)));
  }
}

TEST_CASE("glorot_uniform differs between seeds and tensors", "[init]") {
  const auto base = run(1000, 9, 288, 1, kInitStream);
  REQUIRE(run(1000, 9, 288, 1, kInitStream) == base);
  for (const auto& other :
       {run(1000, 9, 288, 2, kInitStream), run(1000, 9, 288, 1, kInitStream + 1),
        run(1000, 9, 288, 1 + (uint64_t(1) << 32), kInitStream)}) {
    size_t equal = 0;
    for (size_t i = 0; i < base.size(); ++i) equal += base[i] == other[i];
    REQUIRE(equal < 10);
  }
}

TEST_CASE("glorot_uniform refuses impossible sizes", "[init]") {
  DeviceCase device;
  float* w = device.output<float>(16);
  REQUIRE_THROWS_AS(glorot_uniform(w, 16, 0, 0, 1, 1, device.stream()), std::invalid_argument);
  REQUIRE_THROWS_AS(glorot_uniform(w, 16, -3, 2, 1, 1, device.stream()), std::invalid_argument);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
