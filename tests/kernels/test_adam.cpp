// Adam over a flat arena, after softmax_xent has set up the update: against double precision,
// against Keras' float32 formula, over several updates, and that a captured graph does not freeze
// the step.
#include "kernels/kernels.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

constexpr float kLearningRate = 0.001f;

struct Arena {
  std::vector<float> w, m, v, g;
};

Arena random_arena(size_t size) {
  Random random;
  Arena arena{random.reals(size), random.reals(size), random.reals(size, 0, 1), random.reals(size)};
  // Weights that were never used: no gradient, no history.
  for (size_t i = 0; i < size; i += 7) arena.m[i] = arena.v[i] = arena.g[i] = 0;
  return arena;
}

struct Result {
  std::vector<float> w, m, v;
  StepState state;
};

Result run(const Arena& arena, const StepState& before, const AdamParams& params, int times) {
  DeviceCase device;
  float* w = device.in_out(arena.w);
  float* m = device.in_out(arena.m);
  float* v = device.in_out(arena.v);
  const float* g = device.input(arena.g);
  StepState* state = device.in_out(std::vector<StepState>{before});
  MetricSums* metrics = device.in_out(std::vector<MetricSums>(1));
  constexpr int kRows = 130;  // two blocks, of which one sets up the update
  float* workspace = device.workspace(softmax_xent_workspace(kRows));
  const float* logits = device.input(std::vector<float>(kRows));
  const uint8_t* labels = device.input(std::vector<uint8_t>(kRows));
  device.run(
      [&](cudaStream_t stream) {
        softmax_xent(nullptr, metrics, workspace, logits, labels, state, kRows, 1, stream);
        adam(w, m, v, g, state, params, arena.w.size(), stream);
      },
      times);
  return {device.result(w), device.result(m), device.result(v), device.result(state).front()};
}

void require_match(const Result& result, const Arena& arena, int64_t iteration, int times,
                   const AdamParams& params = {}) {
  reference::Adam want = reference::make_adam(widen(arena.w), widen(arena.m), widen(arena.v));
  for (int i = 1; i <= times; ++i)
    want.update(widen(arena.g), double(kLearningRate), iteration + i, params);
  const Extents extents = {int64_t(arena.w.size())};
  REQUIRE(difference(result.w, want.w, extents) == "");
  REQUIRE(difference(result.m, want.m, extents) == "");
  REQUIRE(difference(result.v, want.v, extents) == "");
}

TEST_CASE("adam updates arenas of every size", "[adam]") {
  for (size_t size : {1, 2, 3, 4, 5, 255, 256, 1023, 1024, 4097, 225036}) {
    DYNAMIC_SECTION(size << " weights") {
      const Arena arena = random_arena(size);
      const StepState before = initial_step_state(0, kLearningRate, AdamParams{});
      require_match(run(arena, before, AdamParams{}, 1), arena, 0, 1);
    }
  }
}

// A graph captured once and replayed gives the same (DeviceCase compares them), so that no scalar
// of the step is frozen in its arguments.
TEST_CASE("adam goes on over several updates", "[adam]") {
  for (int64_t iteration : {0, 1, 999, 100000}) {
    DYNAMIC_SECTION("after " << iteration << " updates") {
      const Arena arena = random_arena(1023);
      const StepState before = initial_step_state(iteration, kLearningRate, AdamParams{});
      const Result result = run(arena, before, AdamParams{}, 5);
      require_match(result, arena, iteration, 5);
      REQUIRE(result.state.iteration == iteration + 5);
    }
  }
}

TEST_CASE("adam with other parameters", "[adam]") {
  const AdamParams params{0.8f, 0.99f, 1e-3f};
  const Arena arena = random_arena(1000);
  const Result result = run(arena, initial_step_state(6, kLearningRate, params), params, 3);
  require_match(result, arena, 6, 3, params);
}

TEST_CASE("adam moves the state on to the next update", "[adam]") {
  for (int64_t iteration : {0, 1, 998, 999, 1000000}) {
    DYNAMIC_SECTION("after " << iteration << " updates") {
      StepState before = initial_step_state(iteration, 0.25f, AdamParams{});
      REQUIRE(before.iteration == iteration);
      REQUIRE(before.epoch_begin == 0);
      REQUIRE(before.samples == 0);
      REQUIRE(before.learning_rate == 0.25f);
      before.epoch_begin = iteration - 7;
      before.samples = 60000;
      for (size_t size : {1, 30000}) {
        const StepState after = run(random_arena(size), before, AdamParams{}, 1).state;
        REQUIRE(after.iteration == iteration + 1);
        REQUIRE(after.epoch_begin == iteration - 7);
        REQUIRE(after.samples == 60000);
        REQUIRE(after.learning_rate == 0.25f);
        REQUIRE(difference<float>({after.bias_correction},
                                  reference::adam_bias_correction(iteration + 1, {}), {1}) == "");
      }
    }
  }
}

// A run that is resumed must go on with the same bits.
TEST_CASE("the state after some updates is that of a run that did them", "[adam]") {
  const AdamParams params =
      GENERATE(AdamParams{}, AdamParams{0.5f, 0.9f, 1e-7f}, AdamParams{0, 0, 1e-7f});
  for (int64_t iteration : {0, 1, 5, 46999, 2000000}) {
    INFO("after " << iteration << " updates");
    const StepState before = initial_step_state(iteration, 0.25f, params);
    const StepState want = initial_step_state(iteration + 3, 0.25f, params);
    const StepState after = run(random_arena(4), before, params, 3).state;
    REQUIRE(after.iteration == want.iteration);
    REQUIRE(after.beta1_power == want.beta1_power);
    REQUIRE(after.beta2_power == want.beta2_power);
    REQUIRE(after.bias_correction == want.bias_correction);
  }
  const StepState last = initial_step_state(INT64_MAX, 0.25f, params);  // does not take forever
  REQUIRE(last.bias_correction == 1.0f);
}

// Keras computes in float32, the powers of beta too, which costs it some accuracy in the first
// steps.
TEST_CASE("adam agrees with Keras' float32 formula", "[adam]") {
  const AdamParams params;
  const Arena arena = random_arena(500);
  Arena keras = arena;
  for (int t = 1; t <= 10; ++t) {
    const float alpha = kLearningRate * std::sqrt(1 - std::pow(params.beta2, float(t))) /
                        (1 - std::pow(params.beta1, float(t)));
    for (size_t i = 0; i < keras.w.size(); ++i) {
      keras.m[i] += (keras.g[i] - keras.m[i]) * (1 - params.beta1);
      keras.v[i] += (keras.g[i] * keras.g[i] - keras.v[i]) * (1 - params.beta2);
      keras.w[i] -= alpha * keras.m[i] / (std::sqrt(keras.v[i]) + params.eps);
    }
  }
  const Result result = run(arena, initial_step_state(0, kLearningRate, params), params, 10);
  for (size_t i = 0; i < keras.w.size(); ++i) {
    const double moved = double(arena.w[i]) - double(keras.w[i]);
    INFO("weight " << i);
    REQUIRE(near(double(result.w[i]), double(keras.w[i]), 0, 1e-4 * std::fabs(moved) + 1e-6));
  }
}

TEST_CASE("adam lets what is not finite through", "[adam]") {
  Arena arena = random_arena(10);
  arena.g[3] = std::numeric_limits<float>::quiet_NaN();
  const Result result =
      run(arena, initial_step_state(0, kLearningRate, AdamParams{}), AdamParams{}, 1);
  for (size_t i = 0; i < 10; ++i) REQUIRE(std::isnan(result.w[i]) == (i == 3));
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
