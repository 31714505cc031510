// The batch that fused_gather brings: which rows, in which order, and what follows the epoch's end.
#include "kernels/fused/fused.h"
#include "tests/kernels/fused/gathered.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using fused::kPixels;

TEST_CASE("fused gather", "[fused][fused_gather]") {
  const int samples = 40, batch = 16;
  Random random;
  const auto images = random.bytes(size_t(samples) * kPixels);
  const auto labels = random.bytes(size_t(samples), 1, 9);
  std::vector<int32_t> order(samples);
  for (int i = 0; i < samples; ++i) order[size_t(i)] = (i * 7 + 3) % samples;
  for (int done : {0, 1, 2, 3})
    for (int ahead : {0, 1}) {
      DYNAMIC_SECTION(done << " batches done, " << ahead << " ahead") {
        const StepState state{50 + done, 50, samples, 0.001f, 0.9f, 0.999f, 1, 1, 0};
        DeviceCase device;
        FusedMemory memory{};
        memory.state = device.in_out(std::vector<StepState>{state});
        const FusedBatch to = {device.output<uint8_t>(batch * kPixels),
                               device.output<uint8_t>(batch)};
        const FusedSource from = {device.input(images), device.input(labels), device.input(order)};
        device.run(
            [&](cudaStream_t stream) { fused_gather(to, from, memory, batch, ahead, stream); });
        REQUIRE(test::gather_difference(device.result(to.pixels), device.result(to.labels), images,
                                        labels, order, (done + ahead) * batch) == "");
      }
    }
}

TEST_CASE("fused gather refuses impossible batches", "[fused][fused_gather]") {
  const FusedMemory memory{};
  REQUIRE_THROWS_AS(fused_gather({}, {}, memory, 0, 0, nullptr), std::invalid_argument);
  REQUIRE_THROWS_AS(fused_gather({}, {}, memory, 1, -1, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
