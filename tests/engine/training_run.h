// Training runs of the engine for its tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "host/engine/target_engine.h"
#include "host/model/model.h"

namespace mnist::MNIST_TARGET {

inline constexpr int kPixels = 784;

// Ten kinds of striped images with noise: easy, but not trivial.
struct StripeData {
  std::vector<uint8_t> images, labels;
  explicit StripeData(int64_t count, unsigned seed = 1) {
    std::mt19937 random(seed);
    for (int64_t i = 0; i < count; ++i) {
      const int label = int(random() % 10);
      labels.push_back(uint8_t(label));
      for (int p = 0; p < kPixels; ++p) {
        const bool ink = (p / 28 * (label + 1) + p % 28 * (11 - label)) % 17 < 8;
        images.push_back(uint8_t((ink ? 180 : 20) + int(random() % 60)));
      }
    }
  }
  Samples samples() const { return {images.data(), labels.data(), int64_t(labels.size())}; }
};

inline std::vector<int32_t> shuffled(int64_t count, unsigned seed) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

struct Run {
  OptimizerState state;
  std::vector<Metrics> epochs;
  Metrics validation;
};

// NaN differs.
inline bool same_bits(const OptimizerState& a, const OptimizerState& b) {
  const auto equal = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin());
  };
  return a.iteration == b.iteration && a.learning_rate == b.learning_rate &&
         equal(a.weights, b.weights) && equal(a.m, b.m) && equal(a.v, b.v);
}

inline Run train(const Model& model, EngineConfig config, const StripeData& data, int epochs) {
  auto engine = make_engine(model, config);
  engine->initialize();
  engine->set_training_set(data.samples());
  engine->set_validation_set(data.samples());
  Run run;
  for (int epoch = 0; epoch < epochs; ++epoch)
    run.epochs.push_back(
        engine->train_epoch(shuffled(data.samples().count, unsigned(epoch)), 0, {}, nullptr));
  run.validation = engine->evaluate();
  run.state = engine->save();
  return run;
}

}  // namespace mnist::MNIST_TARGET
