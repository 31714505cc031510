// Gathering and scaling a batch: which source row goes where, the short last batch, odd pixel
// counts.
#include "kernels/kernels.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

// `rows` are the source rows that the batch must have, -1 for a row of zeros.
void require_batch(const std::vector<int32_t>& h_permutation, const std::vector<StepState>& h_state,
                   const BatchShape& shape, const std::vector<int64_t>& rows) {
  Random random;
  const auto h_images = random.bytes(size_t(shape.source_rows) * size_t(shape.pixels));
  const auto h_labels = random.bytes(size_t(shape.source_rows), 1);
  DeviceCase device;
  const uint8_t* images = device.input(h_images);
  const uint8_t* labels = device.input(h_labels);
  const int32_t* permutation = device.input(h_permutation);
  const StepState* state = device.input(h_state);
  float* x = device.output<float>(size_t(shape.batch) * size_t(shape.pixels));
  uint8_t* y = device.output<uint8_t>(size_t(shape.batch));
  device.run([&](cudaStream_t stream) {
    normalize(x, y, images, labels, permutation, state, shape, stream);
  });
  const reference::Batch want =
      reference::normalize(h_images, h_labels, rows, shape.pixels, shape.scale);
  REQUIRE(inequality(device.result(x), want.x, {shape.batch, shape.pixels}) == "");
  REQUIRE(inequality(device.result(y), want.y, {shape.batch}) == "");
}

constexpr float kScale = 1.f / 255.f;

TEST_CASE("normalize takes the first rows if there is no state", "[normalize]") {
  for (int pixels : {784, 1, 2, 3, 4, 5, 785, 1030}) {
    for (int batch : {1, 2, 33}) {
      DYNAMIC_SECTION(batch << " rows of " << pixels << " pixels") {
        std::vector<int64_t> rows;
        for (int i = 0; i < batch; ++i) rows.push_back(i);
        require_batch({}, {}, {batch, pixels, batch, kScale}, rows);
        require_batch({}, {}, {batch, pixels, batch + 3, 1.f}, rows);
      }
    }
  }
}

TEST_CASE("normalize maps every byte", "[normalize]") {
  std::vector<uint8_t> h_images(256);
  for (int i = 0; i < 256; ++i) h_images[size_t(i)] = uint8_t(i);
  DeviceCase device;
  const uint8_t* images = device.input(h_images);
  const uint8_t* labels = device.input(std::vector<uint8_t>{7});
  float* x = device.output<float>(256);
  uint8_t* y = device.output<uint8_t>(1);
  device.run([&](cudaStream_t stream) {
    normalize(x, y, images, labels, nullptr, nullptr, {1, 256, 1, kScale}, stream);
  });
  REQUIRE(device.result(x).front() == 0);
  REQUIRE(device.result(x).back() == 1);
  REQUIRE(inequality(device.result(x), reference::normalize(h_images, {7}, {0}, 256, kScale).x,
                     {256}) == "");
  REQUIRE(device.result(y).front() == 7);
}

TEST_CASE("normalize follows a permutation", "[normalize]") {
  Random random(1);
  std::vector<int32_t> permutation;
  for (int i = 0; i < 77; ++i) permutation.push_back(random.integer(0, 89));
  for (int step : {0, 1, 5, 9, 10, 11}) {
    DYNAMIC_SECTION("step " << step) {
      std::vector<int64_t> rows;
      for (int i = 0; i < 8; ++i)
        rows.push_back(step * 8 + i < 77 ? permutation[size_t(step * 8 + i)] : -1);
      // The same batch as the current one, and as one that is still to come.
      for (int ahead : {0, 1, 2}) {
        StepState state{};
        state.iteration = 1000 + step - ahead;
        state.epoch_begin = 1000;
        state.samples = 77;
        for (int pixels : {784, 6, 3})
          require_batch(permutation, {state}, {8, pixels, 90, kScale, ahead}, rows);
      }
    }
  }
}

TEST_CASE("normalize reaches far into a large source", "[normalize]") {
  const int source_rows = 60000, batch = 128;
  Random random(2);
  std::vector<int32_t> permutation;
  for (int i = 0; i < source_rows; ++i) permutation.push_back(source_rows - 1 - i);
  std::vector<int64_t> rows;
  for (int i = 0; i < batch; ++i) rows.push_back(i < 96 ? 95 - i : -1);
  const StepState state = {468, 0, source_rows, 0.001f, 0.9f, 0.999f, 1, 1, 0};
  require_batch(permutation, {state}, {batch, 12, source_rows, kScale}, rows);
}

TEST_CASE("normalize refuses impossible sizes", "[normalize]") {
  DeviceCase device;
  const uint8_t* bytes = device.input(std::vector<uint8_t>(64));
  float* x = device.output<float>(64);
  uint8_t* y = device.output<uint8_t>(64);
  for (const BatchShape& shape :
       {BatchShape{0, 4, 4, 1.f}, BatchShape{4, 0, 4, 1.f}, BatchShape{4, 4, 0, 1.f},
        BatchShape{-1, 4, 4, 1.f}, BatchShape{5, 4, 4, 1.f}})
    REQUIRE_THROWS_AS(normalize(x, y, bytes, bytes, nullptr, nullptr, shape, device.stream()),
                      std::invalid_argument);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
