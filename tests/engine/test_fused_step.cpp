// Training and evaluation in FP16, by the fused kernels: against FP32 layer by layer, what is
// refused, and what is counted; and by the cudnn backend. How a run goes apart from that:
// test_engine.cpp.
#include <cmath>
#include <string>
#include <vector>

#include "host/engine/engine.h"
#include "host/engine/fused_buffers.h"
#include "host/engine/target_engine.h"
#include "host/error.h"
#include "host/model/model.h"
#include "tests/engine/training_run.h"
#include "tests/support/catch.h"

namespace mnist::MNIST_TARGET {

namespace {

// |a - b| / |b| over one parameter, Euclidean.
double relative_distance(const Parameter& p, const std::vector<float>& a,
                         const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = p.offset; i < p.offset + p.size; ++i) {
    difference += std::pow(double(a[i]) - double(b[i]), 2);
    size += std::pow(double(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

}  // namespace

TEST_CASE("fused step: close to FP32 layer by layer", "[engine][fused][fused_step]") {
  const Model model = parse_arch(kDefaultArch);
  const StripeData data(128);
  std::unique_ptr<Engine> engines[2];
  for (const Math math : {Math::kFp32, Math::kFp16}) {
    auto& engine = engines[size_t(math)];
    engine = make_engine(model, {.math = math, .batch_size = 128, .seed = 4});
    engine->initialize();
    engine->set_training_set(data.samples());
    engine->set_validation_set(data.samples());
  }
  for (unsigned step = 0; step < 5; ++step) {
    INFO("step " << step);
    const auto train = [&](Math math) {
      return engines[size_t(math)]->train_epoch(shuffled(128, step), 0, {}, nullptr);
    };
    const double loss = train(Math::kFp32).loss(), fused_loss = train(Math::kFp16).loss();
    CHECK(std::abs(fused_loss - loss) <= (step == 0 ? 1e-5 : 1e-3) * loss);
    if (step > 0) continue;
    // After one update m is a tenth of the gradient. That of the last layer differs by rounding
    // alone. Behind it, near a tie, rounding decides which position of a window is the largest, and
    // whether a ReLU passes.
    const OptimizerState state = engines[0]->save(), fused_state = engines[1]->save();
    for (const Parameter& parameter : model.parameters) {
      INFO(model.layers[size_t(parameter.layer)].name << " " << parameter.name);
      const bool last = parameter.layer == int(model.layers.size()) - 1;
      CHECK(relative_distance(parameter, fused_state.m, state.m) <= (last ? 2e-3 : 0.05));
    }
  }
  const Metrics validation = engines[0]->evaluate(), fused_validation = engines[1]->evaluate();
  CHECK(std::abs(fused_validation.loss() - validation.loss()) <= 1e-3 * validation.loss());
  CHECK(fused_validation.samples == 128);
}

TEST_CASE("fused step: for the default network and up to 128 images alone", "[engine][fused]") {
  const auto refused = [](const Model& model, const EngineConfig& config) {
    const std::string reason = math_unusable_reason(model, config);
    if (reason.empty()) {
      CHECK_NOTHROW(make_engine(model, config));
      return std::string("not refused");
    }
    try {
      make_engine(model, config);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kUsage);
      CHECK(error.what() == reason);
    }
    return reason;
  };
  const Model model = parse_arch(kDefaultArch);
  CHECK(refused(model, {.math = Math::kFp16}) == "not refused");
  CHECK(refused(model, {.math = Math::kFp16, .batch_size = 1}) == "not refused");
  CHECK(refused(model, {.batch_size = 129}) == "not refused");
  CHECK(refused(model, {.math = Math::kFp16, .batch_size = 129}) ==
        "the native kernels' FP16 is for batches of at most 128, not 129; use those, FP32, or the "
        "cudnn backend");
  for (const char* arch :
       {"conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:64,dense:10",
        "conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128:nobias,dense:10",
        "conv:32x3,pool:2,conv:64x3:linear,pool:2,flatten,dense:128,dense:10",
        "conv:32x3:same,pool:2,conv:64x3,pool:2,flatten,dense:128,dense:10",
        "conv:32x3,pool:2,conv:64x3,pool:2,flatten,dropout:0.5,dense:128,dense:10"})
    CHECK(refused(parse_arch(arch), {.math = Math::kFp16}) ==
          "the native kernels' FP16 is for "
          "conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128,dense:10 on 28x28x1 images, not "
          "for " +
              std::string(arch) + "; use FP32, or the cudnn backend");
  CHECK(!is_fused_network(parse_arch(kDefaultArch, {28, 28, 3})));
  CHECK(!is_fused_network(parse_arch(kDefaultArch, {29, 28, 1})));
}

TEST_CASE("FP16 on the cudnn backend: layer by layer, for every network", "[engine]") {
  const Model model = parse_arch("conv:8x3:same,pool:2,dropout:0.1,flatten,dense:16,dense:10");
  EngineConfig config{
      .backend = BackendKind::kCudnn, .math = Math::kFp16, .batch_size = 200, .seed = 4};
  CHECK(math_unusable_reason(model, config) == "");
  try {
    make_engine(model, config);
  } catch (const Error& error) {
    // Built with it, a module or library that is missing is a failure.
    if (std::string(error.what()).find("built without") == std::string::npos) throw;
    CHECK(error.code() == ExitCode::kUnavailable);
    return;
  }
  const StripeData data(500);
  const Run fp16 = train(model, config, data, 2), again = train(model, config, data, 2);
  CHECK(same_bits(fp16.state, again.state));
  config.math = Math::kFp32;
  const Run fp32 = train(model, config, data, 2);
  CHECK(!same_bits(fp16.state, fp32.state));
  for (size_t epoch = 0; epoch < 2; ++epoch)
    CHECK(std::abs(fp16.epochs[epoch].loss() - fp32.epochs[epoch].loss()) <=
          0.01 * fp32.epochs[epoch].loss());
  CHECK(std::abs(fp16.validation.loss() - fp32.validation.loss()) <= 0.01 * fp32.validation.loss());
}

TEST_CASE("fused step: what is beyond FP16 is counted", "[engine][fused][fused_step]") {
  const Model model = parse_arch(kDefaultArch);
  const StripeData data(20);
  const auto order = shuffled(20, 0);
  auto engine = make_engine(model, {.math = Math::kFp16, .batch_size = 16});
  engine->initialize();
  engine->set_training_set(data.samples());
  engine->set_validation_set(data.samples());
  CHECK(engine->evaluate().saturated == 0);
  // The sums of the batches before go on.
  const Metrics before{.batches = 1, .saturated = 7};
  CHECK(engine->train_epoch(order, 1, before, nullptr).saturated == 7);

  OptimizerState state = engine->save();
  state.weights[model.find(5, "kernel")->offset] = 1e5f;
  engine->load(state);
  CHECK(engine->evaluate().saturated == 1);
  CHECK(engine->evaluate().saturated == 1);  // each by itself
  CHECK(engine->train_epoch(order, 0, {}, nullptr).saturated >= 1);
}

}  // namespace mnist::MNIST_TARGET
