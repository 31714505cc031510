// Random chains of layers on the engine's network with the cudnn backend: two steps and inference
// against the reference network. Loss and Adam are not this backend's.
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "host/engine/backends/cudnn/backend.h"
#include "host/engine/network.h"
#include "tests/engine/cudnn/fixture.h"
#include "tests/support/random_chain.h"
#include "tests/support/reference_network.h"

extern "C" const mnist::MNIST_TARGET::CudnnModule cuda_mnist_cudnn_module;

namespace mnist::MNIST_TARGET {
namespace {

using reference::Bounded;

std::string check_network(const test::Chain& chain) {
  stand_in::reset();
  const Model model = chain.model();
  const int n = chain.batch, classes = model.classes();
  Random random = Random::seeded(chain.seed);
  std::string wrong;
  const auto note = [&](const std::string& where, const std::string& what) {
    if (wrong.empty() && !what.empty()) wrong = where + ": " + what;
  };
  {
    const auto backend = make_cudnn_backend(cuda_mnist_cudnn_module.open({}));
    Network training(*backend, model, n, Mode::kTraining, chain.seed);
    Network inference(*backend, model, n, Mode::kInference, chain.seed);
    const Stream stream;
    const auto run = [&](Network& network, const float* input, const float* weights,
                         const StepState* state, int rows) {
      const float* logits = network.forward(input, {weights, state, rows, stream});
      stream.synchronize();
      return std::vector<float>(logits, logits + rows * classes);
    };
    const auto random_input = [&](int rows) {
      return random.reals(size_t(rows) * size_t(model.input.size()), 0, 1);
    };
    std::vector<float> h_weights = test::random_weights(model, random);
    for (int step = 0; step < 2; ++step) {
      const std::string name = "step " + std::to_string(step + 1);
      const StepState state{.iteration = random.integer(0, 1000),
                            .epoch_begin = 0,
                            .samples = 0,
                            .learning_rate = 0,
                            .beta1 = 0,
                            .beta2 = 0,
                            .beta1_power = 0,
                            .beta2_power = 0,
                            .bias_correction = 0};
      const DeviceBuffer<float> weights = upload(h_weights);
      const DeviceBuffer<float> gradients = upload(std::vector<float>(model.arena_size));
      reference::Network expected(model, h_weights);
      const auto h_input = random_input(n);
      const DeviceBuffer<float> input = upload(h_input);
      const Bounded& want = expected.forward(reference::exact(h_input), n,
                                             reference::DropoutState{chain.seed, state.iteration});
      note(name + ", logits",
           reference::difference(run(training, input.data(), weights.data(), &state, n), want,
                                 {n, classes}));
      // The rows behind a short batch have no gradient.
      auto h_dlogits = random.reals(size_t(n) * size_t(classes));
      const int real = step == 0 ? n : chain.samples - chain.batch;
      std::fill(h_dlogits.begin() + real * classes, h_dlogits.end(), 0.0f);
      std::copy(h_dlogits.begin(), h_dlogits.end(), training.dlogits());
      training.backward(gradients.data(), input.data(), {weights.data(), &state, n, stream});
      stream.synchronize();
      const Bounded g = expected.backward(reference::exact(h_dlogits));
      const std::vector<float> h_gradients = download(gradients);
      for (const Parameter& p : model.parameters)
        note(name + ", gradient of " + model.layers[size_t(p.layer)].name + "/" + p.name,
             reference::difference(test::part(h_gradients, p),
                                   {test::part(g.value, p), test::part(g.error, p)}, p.shape));

      const int rows = random.integer(1, n);
      const auto h_other = random_input(rows);
      note("inference", reference::difference(
                            run(inference, upload(h_other).data(), weights.data(), nullptr, rows),
                            reference::Network(model, h_weights)
                                .forward(reference::exact(h_other), rows, std::nullopt),
                            {rows, classes}));
      for (size_t i = 0; i < h_weights.size(); ++i) h_weights[i] -= 0.01f * h_gradients[i];
    }
  }
  if (!stand_in::alive().empty()) note("not given back", joined(stand_in::alive()));
  note("faults", joined(stand_in::faults()));
  return wrong;
}

TEST_CASE("random chains of layers on the cudnn backend", "[cudnn][chains]") {
  test::require_random_chains(100, check_network);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
