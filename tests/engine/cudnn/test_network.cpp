// The engine's network on the cudnn backend: whole steps, to the bit, and in the order that its two
// streams need.
#include "host/engine/backends/cudnn/backend.h"
#include "host/engine/network.h"
#include "tests/engine/cudnn/fixture.h"
#include "tests/support/reference_network.h"

extern "C" const mnist::MNIST_TARGET::CudnnModule cuda_mnist_cudnn_module;

namespace mnist::MNIST_TARGET {
namespace {

TEST_CASE("a network on the cudnn backend takes whole steps", "[cudnn]") {
  const std::string arch =
      GENERATE(std::string(kDefaultArch),
               "conv:4x3:same:stride2,pool:2,dropout:0.5,conv:6x2:same:linear:nobias,flatten,"
               "dense:9:nobias,"
               "dense:10",
               "pool:3x2:same:stride2,conv:3x2x4,conv:4x3:same,pool:2:same,flatten,dense:10",
               "dropout:0.5,flatten,dense:10");
  const bool fp16 = GENERATE(false, true);
  DYNAMIC_SECTION(arch << ", fp16 " << fp16) {
    stand_in::reset();
    constexpr int kBatch = 3;
    const Model model = parse_arch(arch, arch == kDefaultArch ? kMnistExtent : Extent{11, 10, 2});
    {
      const auto backend = make_cudnn_backend(cuda_mnist_cudnn_module.open({.fp16 = fp16}));
      Network training(*backend, model, kBatch, Mode::kTraining, 0);
      Network inference(*backend, model, kBatch, Mode::kInference, 0);
      const Stream stream;
      const StepState state{};
      Random random;
      // As the engine does before it records the step: memory that nobody has written yet would be
      // a fault here.
      const DeviceBuffer<float> nothing = upload(std::vector<float>(model.arena_size));
      const DeviceBuffer<float> ignored(model.arena_size);
      const DeviceBuffer<float> blank =
          upload(std::vector<float>(kBatch * size_t(model.input.size())));
      std::fill_n(training.dlogits(), kBatch * 10, 0.0f);
      training.forward(blank.data(), {nothing.data(), &state, kBatch, stream});
      training.backward(ignored.data(), blank.data(), {nothing.data(), &state, kBatch, stream});
      for (int step = 0; step < 2; ++step) {
        // Whole numbers, small enough that float32 gets every sum exactly; in FP16, where 2048 is
        // the limit, most weights are zero, and dlogits are multiples of a power of two.
        auto h_weights = random.whole(model.arena_size, -1, 1);
        if (fp16)
          for (float& weight : h_weights) weight *= random.integer(0, 7) == 0;
        const auto h_input = random.whole(kBatch * size_t(model.input.size()), 0, 1);
        auto h_dlogits = random.whole(kBatch * 10, -1, 1);
        if (fp16)
          for (float& dlogit : h_dlogits) dlogit *= 0x1p-10f;
        const DeviceBuffer<float> weights = upload(h_weights);
        const DeviceBuffer<float> gradients = upload(std::vector<float>(model.arena_size));
        const DeviceBuffer<float> input = upload(h_input);
        std::copy(h_dlogits.begin(), h_dlogits.end(), training.dlogits());
        stand_in::set_capturing(true);
        const float* logits =
            training.forward(input.data(), {weights.data(), &state, kBatch, stream});
        training.backward(gradients.data(), input.data(), {weights.data(), &state, kBatch, stream});
        stand_in::set_capturing(false);
        stream.synchronize();
        INFO(joined(stand_in::faults()));
        REQUIRE(stand_in::faults().empty());
        REQUIRE(stand_in::unfinished() == 0);  // the other stream joined this one
        reference::Network reference(model, h_weights);
        const auto want = reference
                              .forward(reference::exact(h_input), kBatch,
                                       reference::DropoutState{0, state.iteration})
                              .value;
        REQUIRE(inequality(std::vector<float>(logits, logits + kBatch * 10), want, {kBatch, 10}) ==
                "");
        REQUIRE(inequality(download(gradients),
                           reference.backward(reference::exact(h_dlogits)).value,
                           {int64_t(model.arena_size)}) == "");

        if (arch.find("dropout") != std::string::npos) continue;  // there is none at inference
        for (int n : {kBatch, 1}) {
          const float* same = inference.forward(input.data(), {weights.data(), nullptr, n, stream});
          REQUIRE(stand_in::faults().empty());
          REQUIRE(std::equal(same, same + n * 10, want.begin()));
        }
      }
    }
    INFO(joined(stand_in::faults()) << joined(stand_in::alive()));
    REQUIRE(stand_in::faults().empty());
    REQUIRE(stand_in::alive().empty());
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
