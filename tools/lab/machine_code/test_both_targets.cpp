// The cpu target against the cuda target's machine code: whole training steps, bit for bit; in FP16
// as close as the orders allow in which the products are summed.
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/data/epoch_order.h"
#include "host/data/synthetic.h"
#include "host/engine/engine.h"
#include "host/model/model.h"
#include "tests/support/catch.h"

namespace {

using namespace mnist;

// What a run leaves behind.
struct Outcome {
  OptimizerState state;
  std::vector<Metrics> metrics;  // of each epoch: of training, of validation
  std::vector<float> probabilities;
};

Outcome train(Target target, const char* arch, int batch_size, int samples) {
  const Model model = parse_arch(arch);
  const ImageSet digits = synthetic_digits(samples, 1);
  const auto engine =
      make_engine(target, model, {.batch_size = batch_size, .seed = 7, .threads = 1});
  engine->initialize();
  engine->set_training_set(digits.samples());
  engine->set_validation_set(digits.samples());
  Outcome outcome;
  for (int epoch = 0; epoch < 2; ++epoch) {
    outcome.metrics.push_back(
        engine->train_epoch(epoch_order(samples, 7, epoch, true), 0, {}, nullptr));
    outcome.metrics.push_back(engine->evaluate());
  }
  outcome.state = engine->save();
  outcome.probabilities = engine->predict(digits.images.data(), samples);
  return outcome;
}

size_t different_bits(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  size_t count = 0;
  for (size_t i = 0; i < a.size(); ++i)
    count += std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]);
  return count;
}

void compare(const char* arch, int batch_size, int samples) {
  INFO(arch << ", batches of " << batch_size << ", " << samples << " samples");
  const Outcome cpu = train(Target::kCpu, arch, batch_size, samples);
  const Outcome cuda = train(Target::kCuda, arch, batch_size, samples);
  CHECK(different_bits(cpu.state.weights, cuda.state.weights) == 0);
  CHECK(different_bits(cpu.state.m, cuda.state.m) == 0);
  CHECK(different_bits(cpu.state.v, cuda.state.v) == 0);
  CHECK(different_bits(cpu.probabilities, cuda.probabilities) == 0);
  CHECK(cpu.state.iteration == cuda.state.iteration);
  for (size_t i = 0; i < cpu.metrics.size(); ++i) {
    INFO("epoch " << i / 2 << (i % 2 == 0 ? ", training" : ", validation"));
    CHECK(std::bit_cast<uint64_t>(cpu.metrics[i].loss_sum) ==
          std::bit_cast<uint64_t>(cuda.metrics[i].loss_sum));
    CHECK(cpu.metrics[i].correct == cuda.metrics[i].correct);
    CHECK(cpu.metrics[i].samples == cuda.metrics[i].samples);
  }
}

// ---- FP16 ---------------------------------------------------------------------------------------

constexpr int kFusedBatch = 20, kFusedSamples = 40;

// Epochs of one batch, then of two.
Outcome train_fused(Target target, int updates) {
  const Model model = parse_arch(kDefaultArch);
  const ImageSet digits = synthetic_digits(kFusedSamples, 1);
  const EngineConfig config = {
      .math = Math::kFp16, .batch_size = kFusedBatch, .seed = 7, .threads = 1};
  const auto engine = make_engine(target, model, config);
  engine->initialize();
  Outcome outcome;
  for (int done = 0; done < updates;) {
    const int batches = done == 0 ? 1 : 2, samples = batches * kFusedBatch;
    const Samples some = {digits.images.data(), digits.labels.data(), samples};
    engine->set_training_set(some);
    engine->set_validation_set(some);
    outcome.metrics.push_back(
        engine->train_epoch(epoch_order(samples, 7, done, true), 0, {}, nullptr));
    outcome.metrics.push_back(engine->evaluate());
    done += batches;
  }
  outcome.state = engine->save();
  outcome.probabilities = engine->predict(digits.images.data(), kFusedSamples);
  return outcome;
}

// |a - b| / |b| over elements [begin,end), Euclidean; NaN if one is.
double distance(const std::vector<float>& a, const std::vector<float>& b, size_t begin,
                size_t end) {
  double difference = 0, size = 0;
  for (size_t i = begin; i < end; ++i) {
    difference += std::pow(double(a[i]) - double(b[i]), 2);
    size += std::pow(double(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

void compare_fused(int updates, double tolerance, double loss_tolerance) {
  INFO(updates << " updates");
  const Outcome cpu = train_fused(Target::kCpu, updates);
  const Outcome cuda = train_fused(Target::kCuda, updates);
  const Model model = parse_arch(kDefaultArch);
  for (const Parameter& parameter : model.parameters) {
    INFO(model.layers[size_t(parameter.layer)].name << " " << parameter.name);
    const auto difference = [&](std::vector<float> OptimizerState::*arena) {
      return distance(cuda.state.*arena, cpu.state.*arena, parameter.offset,
                      parameter.offset + parameter.size);
    };
    CHECK(difference(&OptimizerState::weights) <= tolerance);
    CHECK(difference(&OptimizerState::m) <= tolerance);
    CHECK(difference(&OptimizerState::v) <= tolerance);
  }
  CHECK(cpu.state.iteration == cuda.state.iteration);
  CHECK(distance(cuda.probabilities, cpu.probabilities, 0, cpu.probabilities.size()) <= tolerance);
  for (size_t i = 0; i < cpu.metrics.size(); ++i) {
    INFO("epoch " << i / 2 << (i % 2 == 0 ? ", training" : ", validation"));
    const Metrics &a = cpu.metrics[i], &b = cuda.metrics[i];
    CHECK(std::abs(a.loss_sum - b.loss_sum) <= loss_tolerance * a.loss_sum);
    CHECK(a.correct == b.correct);
    CHECK(a.samples == b.samples);
    CHECK(a.saturated == b.saturated);
  }
}

}  // namespace

TEST_CASE("the default model has the same bits on both targets") {
  compare(kDefaultArch, 4, 6);
}

TEST_CASE("so has a model of all other layers") {
  compare("conv:5x5:same,pool:3,conv:6x3,pool:2,dropout:0.4,flatten,dense:9,dense:10", 5, 12);
}

TEST_CASE("the FP16 step is as close as its sums allow", "[fused]") {
  compare_fused(1, 2e-4, 1e-5);
  compare_fused(3, 3e-2, 1e-4);  // by now Adam has moved some weights of tiny gradients apart
}
