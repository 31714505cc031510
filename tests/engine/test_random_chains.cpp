// Random chains of layers on the engine against the reference network: what it predicts, the loss,
// every gradient, and two updates, each from the state that the engine reached.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "host/engine/backends/backends.h"
#include "host/engine/target_engine.h"
#include "host/error.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/random_chain.h"
#include "tests/support/reference_network.h"

namespace mnist::MNIST_TARGET {
namespace {

using reference::Bounded;
using reference::Tensor;
using test::Chain;

constexpr AdamParams kAdam{};
constexpr float kScale = 1.0f / 255.0f;

struct Data {
  std::vector<uint8_t> images, labels;
  Samples first(int count) const { return {images.data(), labels.data(), count}; }
};

// Images on which no two windows look alike, some with an empty background.
Data random_data(const Chain& chain, int classes, Random& random) {
  Data data;
  const auto pixels = size_t(chain.samples) * size_t(chain.input.size());
  data.images = random.bytes(pixels);
  if (random.integer(0, 2) == 0)
    for (uint8_t& pixel : data.images)
      if (random.integer(0, 1) == 0) pixel = 0;
  data.labels = random.bytes(size_t(chain.samples), 0, classes - 1);
  return data;
}

std::vector<int32_t> shuffled(int count, Random& random) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (int i = count; i > 1; --i)
    std::swap(order[size_t(i) - 1], order[size_t(random.integer(0, i - 1))]);
  return order;
}

// The first of several complaints, and where it is.
class Findings {
 public:
  void add(const std::string& where, const std::string& what) {
    if (text_.empty() && !what.empty()) text_ = where + ": " + what;
  }
  void expect(const std::string& what, double actual, double expected, double error) {
    if (std::fabs(actual - expected) <= error) return;  // false for a NaN
    add(what, std::to_string(actual) + ", not " + std::to_string(expected) + " +- " +
                  std::to_string(error));
  }
  void expect_within(const std::string& what, int64_t correct, const reference::BoundedLoss& loss) {
    if (correct < loss.correct_least || correct > loss.correct_most)
      add(what, std::to_string(correct) + ", not from " + std::to_string(loss.correct_least) +
                    " to " + std::to_string(loss.correct_most));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// One update from `before` to `after`, whose gradients are `g`.
void check_update(Findings& findings, const std::string& step, const Model& model,
                  const OptimizerState& before, const OptimizerState& after, const Bounded& g) {
  const int64_t t = before.iteration + 1;
  if (after.iteration != t) findings.add(step, "the iteration is not one more");
  reference::Adam adam = reference::make_adam(
      reference::widen(before.weights), reference::widen(before.m), reference::widen(before.v));
  adam.update(g.value, double(before.learning_rate), t, kAdam);
  const reference::Sums correction = reference::adam_bias_correction(t, kAdam);
  Bounded m{adam.m.value, {}}, v{adam.v.value, {}}, w;
  for (size_t i = 0; i < g.value.size(); ++i) {
    const double error = g.error[i], size = std::fabs(g.value[i]);
    m.error.push_back(0.1 * error + rounding_error(adam.m, i));
    v.error.push_back(0.001 * error * (2 * size + error) + rounding_error(adam.v, i));
    // The weight, from the moments that the engine has: those near zero decide its sign.
    const double update = double(before.learning_rate) * correction.value[0] * double(after.m[i]) /
                          (std::sqrt(double(after.v[i])) + double(kAdam.eps));
    w.value.push_back(double(before.weights[i]) - update);
    w.error.push_back(4 * kFloatEpsilon *
                      (std::fabs(w.value[i]) +
                       std::fabs(update) * (2 + correction.magnitude[0] / correction.value[0])));
  }
  for (const Parameter& p : model.parameters) {
    const std::string name = model.layers[size_t(p.layer)].name + "/" + p.name;
    const auto compare = [&](const char* what, const std::vector<float>& actual,
                             const Bounded& expected) {
      findings.add(step + ", " + what + name,
                   reference::difference(
                       test::part(actual, p),
                       {test::part(expected.value, p), test::part(expected.error, p)}, p.shape));
    };
    compare("gradient of ", after.m, m);
    compare("squared gradient of ", after.v, v);
    compare("", after.weights, w);
  }
}

std::string check_engine(const Chain& chain, BackendKind backend) {
  const Model model = chain.model();
  Random random = Random::seeded(chain.seed);
  const int classes = model.classes(), pixels = int(model.input.size());
  const Data data = random_data(chain, classes, random);
  OptimizerState state;
  state.weights = test::random_weights(model, random);
  state.m = state.v = std::vector<float>(model.arena_size);
  if (random.integer(0, 1) == 0) {  // in the middle of a training
    state.iteration = random.integer(1, 2000);
    state.m = test::random_weights(model, random);
    for (size_t i = 0; i < state.v.size(); ++i) state.v[i] = 2 * state.m[i] * state.m[i];
  }
  const auto inputs = [&](const std::vector<int64_t>& rows) {
    return reference::exact(reference::normalize(data.images, data.labels, rows, pixels, kScale).x);
  };
  const auto labels = [&](const std::vector<int64_t>& rows) {
    return reference::normalize({}, data.labels, rows, 0, kScale).y;
  };

  const auto engine = make_engine(model, {.backend = backend,
                                          .batch_size = chain.batch,
                                          .seed = chain.seed,
                                          .resident = chain.resident,
                                          .eager = chain.eager});
  engine->load(state);
  Findings findings;

  {  // forward
    const int n = chain.samples;
    std::vector<int64_t> rows(static_cast<size_t>(n));
    std::iota(rows.begin(), rows.end(), 0);
    reference::Network network(model, state.weights);
    const Bounded& logits = network.forward(inputs(rows), n, std::nullopt);
    const auto probabilities = engine->predict(data.images.data(), n);
    findings.add(
        "predict",
        reference::difference(probabilities, reference::softmax(logits, n, classes), {n, classes}));
    const auto loss = reference::softmax_xent(logits, data.labels, n, n, classes);
    engine->set_validation_set(data.first(n));
    const Metrics metrics = engine->evaluate();
    findings.expect("evaluate, loss", metrics.loss_sum, loss.sum, loss.error);
    findings.expect_within("evaluate, correct", metrics.correct, loss);
    findings.expect("evaluate, samples", double(metrics.samples), n, 0);
  }

  // The first update with a full batch, the second with the rest: batch number 1 of an epoch over
  // all samples.
  Metrics sums;
  for (int step = 0; step < 2; ++step) {
    const int count = step == 0 ? chain.batch : chain.samples;
    const std::vector<int32_t> order = shuffled(count, random);
    engine->set_training_set(data.first(count));
    const Metrics metrics = engine->train_epoch(order, step, sums, nullptr);
    const OptimizerState after = engine->save();

    const int real = step == 0 ? count : count - chain.batch;
    std::vector<int64_t> rows(size_t(chain.batch), -1);
    std::copy_n(order.begin() + step * chain.batch, real, rows.begin());
    reference::Network network(model, state.weights);
    const Bounded& logits = network.forward(inputs(rows), chain.batch,
                                            reference::DropoutState{chain.seed, state.iteration});
    auto loss = reference::softmax_xent(logits, labels(rows), real, chain.batch, classes);
    const std::string name = "step " + std::to_string(step + 1);
    findings.expect(name + ", loss", metrics.loss_sum - sums.loss_sum, loss.sum,
                    loss.error + 1e-12 * metrics.loss_sum);
    findings.expect_within(name + ", correct", metrics.correct - sums.correct, loss);
    findings.expect(name + ", samples", double(metrics.samples), count, 0);
    findings.expect(name + ", batches", double(metrics.batches), step + 1, 0);
    check_update(findings, name, model, state, after, network.backward(std::move(loss.dlogits)));
    state = after;
    sums = metrics;
  }
  return findings.text();
}

}  // namespace

TEST_CASE("random chains of layers train as the reference does", "[engine][chains]") {
  test::require_random_chains(
      200, [](const Chain& chain) { return check_engine(chain, BackendKind::kNative); });
}

#ifndef MNIST_SIMT
TEST_CASE("random chains of layers train as the reference does, on cudnn", "[engine][chains]") {
  try {
    make_backend(BackendKind::kCudnn);
  } catch (const Error& error) {
    // Built with it, a module or library that is missing is a failure.
    if (std::string(error.what()).find("built without") == std::string::npos) throw;
    WARN("NOT RUN: " << error.what());
    return;
  }
  test::require_random_chains(
      200, [](const Chain& chain) { return check_engine(chain, BackendKind::kCudnn); });
}
#endif

TEST_CASE("a random chain is written and read, and shrinks to what matters", "[chains]") {
  const auto pool_behind_dropout = [](const Chain& chain) {
    for (size_t i = 1; i < chain.layers.size(); ++i)
      if (chain.layers[i - 1].kind == LayerKind::kDropout &&
          chain.layers[i].kind == LayerKind::kMaxPool2D)
        return std::string("fails");
    return std::string();
  };
  Random random;
  int failed = 0;
  for (int i = 0; i < 100; ++i) {
    const Chain chain = test::draw_chain(random);
    REQUIRE(to_string(test::parse_chain(to_string(chain))) == to_string(chain));
    if (pool_behind_dropout(chain).empty()) continue;
    ++failed;
    const Chain small = test::shrink(chain, pool_behind_dropout);
    INFO(to_string(chain) << "\n" << to_string(small));
    REQUIRE(small.layers.size() == 4);  // and flatten, dense
    REQUIRE(!pool_behind_dropout(small).empty());
    REQUIRE(small.input.size() == 2);  // 1x1x1 would be a flat vector
    REQUIRE(small.batch == 1);
  }
  REQUIRE(failed > 0);
}

}  // namespace mnist::MNIST_TARGET
