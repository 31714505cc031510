// Runs a training step of the default model on the cuda target, for `machine_code.sh time`: the
// executor times what the engine's graph launches.
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "host/data/synthetic.h"
#include "host/engine/engine.h"
#include "host/model/model.h"
#include "tools/lab/machine_code/runtime/executor.h"

namespace {

constexpr int kBatch = 128;

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
  const mnist::ImageSet digits = mnist::synthetic_digits(kBatch, 1);
  const auto engine =
      mnist::make_engine(mnist::Target::kCuda, mnist::parse_arch(mnist::kDefaultArch),
                         {.batch_size = kBatch, .seed = 1});
  engine->initialize();
  engine->load(in_training(engine->save()));
  engine->set_training_set(digits.samples());
  // From here on only the graph: what warms up a device need not be executed.
  machine_code::ask("{\"eager\": false}");
  std::vector<int32_t> order(kBatch);
  std::iota(order.begin(), order.end(), 0);
  const mnist::Metrics metrics = engine->train_epoch(order, 0, {}, nullptr);
  std::fprintf(stderr, "executed a step: loss %.4f\n", metrics.loss());
}
