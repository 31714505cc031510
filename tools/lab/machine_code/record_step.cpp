// Trains or evaluates the default model on the cuda target, for `machine_code.sh time`: the
// executor times what the engine launches.
//
//   record_step fp32|fp16 [evaluation]
#include <cmath>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "host/data/synthetic.h"
#include "host/engine/engine.h"
#include "host/model/model.h"

namespace {

// Enough batches for every graph that training makes.
constexpr int kBatch = 128, kBatches = 32, kValidation = 10'000;

// As after some thousand steps: the first ones meet zeros, which some divisions take longer for.
mnist::OptimizerState in_training(mnist::OptimizerState state) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (float& m : state.m) m = 1e-3f * normal(random);
  for (float& v : state.v) v = 1e-6f * std::abs(normal(random)) + 1e-9f;
  state.iteration = 5000;
  return state;
}

void train(mnist::Engine& engine) {
  const mnist::ImageSet digits = mnist::synthetic_digits(kBatch * kBatches, 1);
  engine.load(in_training(engine.save()));
  engine.set_training_set(digits.samples());
  std::vector<int32_t> order(digits.labels.size());
  std::iota(order.begin(), order.end(), 0);
  engine.train_epoch(order, 0, {}, nullptr);
}

void evaluate(mnist::Engine& engine) {
  const mnist::ImageSet digits = mnist::synthetic_digits(kValidation, 1);
  engine.set_validation_set(digits.samples());
  for (int i = 0; i < 2; ++i) engine.evaluate();  // the first one is no graph
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  const auto has = [&](size_t i, std::string_view word) {
    return i < arguments.size() && arguments[i] == word;
  };
  const auto engine =
      mnist::make_engine(mnist::Target::kCuda, mnist::parse_arch(mnist::kDefaultArch),
                         {.math = has(0, "fp16") ? mnist::Math::kFp16 : mnist::Math::kFp32,
                          .batch_size = kBatch,
                          .seed = 1});
  engine->initialize();
  has(1, "evaluation") ? evaluate(*engine) : train(*engine);
}
