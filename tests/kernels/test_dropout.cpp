// Dropout: the mask is the documented one, the same in the backward pass, and another in every
// update.
#include "kernels/kernels.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

struct Stream {
  uint64_t seed;
  uint32_t layer;
};

std::vector<float> run(const std::vector<float>& h_in, const std::vector<float>& h_gate,
                       int64_t iteration, float rate, const Stream& random_stream) {
  DeviceCase device;
  const float* in = device.input(h_in);
  const float* gate = device.input(h_gate);
  const StepState* state =
      device.input(std::vector<StepState>{{iteration, 0, 60000, 0.001f, 0.9f, 0.999f, 1, 1, 0}});
  float* out = device.output<float>(h_in.size());
  device.run([&](cudaStream_t stream) {
    dropout(out, in, gate, state, rate, random_stream.seed, random_stream.layer, h_in.size(),
            stream);
  });
  return device.result(out);
}

reference::Sums expected(const std::vector<float>& in, int64_t iteration, float rate,
                         const Stream& random_stream) {
  reference::Sums sums{widen(in), {}, 1};
  for (size_t i = 0; i < in.size(); ++i) {
    const bool kept =
        reference::dropout_keeps(i, iteration, rate, random_stream.seed, random_stream.layer);
    sums.value[i] = kept ? sums.value[i] / (1 - double(rate)) : 0;
    sums.magnitude.push_back(std::fabs(sums.value[i]));
  }
  return sums;
}

TEST_CASE("dropout has the documented mask", "[dropout]") {
  Random random;
  for (size_t size : {1, 2, 3, 4, 5, 255, 257, 1023, 1600, 70001}) {
    DYNAMIC_SECTION(size << " elements") {
      const auto in = random.reals(size, 1, 2);
      const Stream stream = {random.next(), uint32_t(random.next())};
      const int64_t iteration = int64_t(random.next() >> 20);
      const float rate = random.real(0.1f, 0.9f);
      REQUIRE(difference(run(in, {}, iteration, rate, stream),
                         expected(in, iteration, rate, stream), {int64_t(size)}) == "");
    }
  }
}

TEST_CASE("dropout keeps the promised share", "[dropout]") {
  Random random;
  const size_t size = 100000;
  for (float rate : {0.f, 0.1f, 0.5f, 0.9f}) {
    DYNAMIC_SECTION("rate " << rate) {
      const auto out =
          run(std::vector<float>(size, 1.f), {}, 12, rate, {random.next(), 0x30000001u});
      const double kept = double(size) - double(std::count(out.begin(), out.end(), 0.f));
      const double mean = double(size) * (1 - double(rate));
      REQUIRE(std::fabs(kept - mean) <= 5 * std::sqrt(mean * double(rate)));
      for (float value : out) REQUIRE((value == 0 || std::fabs(value * (1 - rate) - 1) <= 1e-6f));
    }
  }
}

TEST_CASE("dropout has the same mask in the backward pass", "[dropout]") {
  Random random;
  const auto x = random.reals(1000, 1, 2), dy = random.reals(1000, 1, 2);
  const Stream stream = {random.next(), 5};
  const auto y = run(x, {}, 41, 0.4f, stream), dx = run(dy, {}, 41, 0.4f, stream);
  size_t dropped = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    REQUIRE((y[i] == 0) == (dx[i] == 0));
    dropped += y[i] == 0;
  }
  REQUIRE(dropped > 300);
  REQUIRE(dropped < 500);

  const auto gate = random.rectified(1000);
  REQUIRE(difference(run(dy, gate, 41, 0.4f, stream),
                     reference::gated(expected(dy, 41, 0.4f, stream), widen(gate)), {1000}) == "");
}

// Two independent masks of rate 0.5 differ in half of 1000 places, give or take 16.
TEST_CASE("dropout changes with update, seed and layer", "[dropout]") {
  const std::vector<float> ones(1000, 1.f);
  const auto base = run(ones, {}, 100, 0.5f, {7, 1});
  const auto places_changed = [&](const std::vector<float>& other) {
    size_t count = 0;
    for (size_t i = 0; i < base.size(); ++i) count += base[i] != other[i];
    return count;
  };
  REQUIRE(places_changed(run(ones, {}, 100, 0.5f, {7, 1})) == 0);
  for (const auto& other :
       {run(ones, {}, 101, 0.5f, {7, 1}), run(ones, {}, 100 + (int64_t(1) << 32), 0.5f, {7, 1}),
        run(ones, {}, 100, 0.5f, {8, 1}), run(ones, {}, 100, 0.5f, {7 + (uint64_t(1) << 32), 1}),
        run(ones, {}, 100, 0.5f, {7, 2})}) {
    REQUIRE(places_changed(other) > 400);
    REQUIRE(places_changed(other) < 600);
  }
}

TEST_CASE("dropout drops what is not a number too", "[dropout]") {
  const std::vector<float> nan(100, std::numeric_limits<float>::quiet_NaN());
  const auto out = run(nan, {}, 3, 0.5f, {1, 1});
  for (size_t i = 0; i < out.size(); ++i) {
    if (reference::dropout_keeps(i, 3, 0.5f, 1, 1))
      REQUIRE(std::isnan(out[i]));
    else
      REQUIRE(out[i] == 0);
  }
}

TEST_CASE("dropout refuses impossible rates", "[dropout]") {
  DeviceCase device;
  const float* in = device.input(std::vector<float>(16));
  const StepState* state = device.input(std::vector<StepState>(1));
  float* out = device.output<float>(16);
  for (float rate : {-0.1f, 1.f, 1.5f, std::numeric_limits<float>::quiet_NaN()})
    REQUIRE_THROWS_AS(dropout(out, in, nullptr, state, rate, 1, 1, 16, device.stream()),
                      std::invalid_argument);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
