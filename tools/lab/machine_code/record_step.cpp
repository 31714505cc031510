// Trains the default model on the cuda target, for `machine_code.sh time`: the executor times what
// the engine launches. Enough batches for every graph that it makes.
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "host/data/synthetic.h"
#include "host/engine/engine.h"
#include "host/model/model.h"

namespace {

constexpr int kBatch = 128, kBatches = 32;

// As after some thousand steps: the first ones meet zeros, which some divisions take longer for.
mnist::OptimizerState in_training(mnist::OptimizerState state) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (float& m : state.m) m = 1e-3f * normal(random);
  for (float& v : state.v) v = 1e-6f * std::abs(normal(random)) + 1e-9f;
  state.iteration = 5000;
  return state;
}

}  // namespace

int main() {
  const mnist::ImageSet digits = mnist::synthetic_digits(kBatch * kBatches, 1);
  const auto engine =
      mnist::make_engine(mnist::Target::kCuda, mnist::parse_arch(mnist::kDefaultArch),
                         {.batch_size = kBatch, .seed = 1});
  engine->initialize();
  engine->load(in_training(engine->save()));
  engine->set_training_set(digits.samples());
  std::vector<int32_t> order(digits.labels.size());
  std::iota(order.begin(), order.end(), 0);
  engine->train_epoch(order, 0, {}, nullptr);
}
