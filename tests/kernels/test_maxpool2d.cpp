// Max pooling: random values, and those where a kernel shows its tie rule: equal values, zeros,
// NaN.
#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/layer_runs.h"

namespace mnist::MNIST_TARGET {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<PoolShape> shapes() {
  std::vector<PoolShape> all = edge_pool_shapes();
  for (const PoolShape& shape : model_pool_shapes(2)) all.push_back(shape);
  return all;
}

void require_forward(const std::vector<float>& h_x, const PoolShape& shape) {
  const reference::Pooled want = reference::maxpool2d_forward(widen(h_x), shape);
  for (bool with_argmax : {true, false}) {
    INFO((with_argmax ? "with argmax" : "without argmax"));
    DeviceCase device;
    const float* x = device.input(h_x);
    float* y = device.output<float>(shape.output_size());
    uint8_t* argmax = device.output<uint8_t>(with_argmax ? shape.output_size() : 0);
    device.run([&](cudaStream_t stream) { maxpool2d_forward(y, argmax, x, shape, stream); });
    REQUIRE(inequality(device.result(y), want.y, output_extents(shape)) == "");
    if (with_argmax)
      REQUIRE(inequality(device.result(argmax), want.argmax, output_extents(shape)) == "");
  }
}

std::vector<float> run_backward(const std::vector<float>& h_dy,
                                const std::vector<uint8_t>& h_argmax,
                                const std::vector<float>& h_gate, const PoolShape& shape) {
  const auto launch = [&](float* dx, const float* dy, const uint8_t* argmax, const float* gate,
                          cudaStream_t stream) {
    maxpool2d_backward(dx, dy, argmax, gate, shape, stream);
  };
  return one_output(shape.input_size(), launch, h_dy, h_argmax, h_gate);
}

TEST_CASE("maxpool2d_forward", "[maxpool2d]") {
  for (const PoolShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const size_t size = shape.input_size();
      SECTION("random values") {
        require_forward(random.reals(size), shape);
      }
      SECTION("negative values: padding must not win") {
        require_forward(random.reals(size, -3, -1), shape);
      }
      SECTION("few different values: ties") {
        require_forward(random.whole(size, -1, 1), shape);
      }
      SECTION("after a ReLU: many zeros") {
        require_forward(random.rectified(size), shape);
      }
      SECTION("all equal") {
        require_forward(std::vector<float>(size, 2.5f), shape);
      }
      SECTION("all zero") {
        require_forward(std::vector<float>(size, 0.f), shape);
      }
      SECTION("all minus infinity") {
        require_forward(std::vector<float>(size, -kInfinity), shape);
      }
      SECTION("some NaN") {
        std::vector<float> x = random.reals(size);
        for (float& value : x)
          if (random.integer(0, 3) == 0) value = kNaN;
        require_forward(x, shape);
      }
    }
  }
}

TEST_CASE("maxpool2d_backward", "[maxpool2d]") {
  for (const PoolShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.whole(shape.input_size(), -2, 2);
      const auto argmax = reference::maxpool2d_forward(widen(x), shape).argmax;
      const auto dy = random.reals(shape.output_size());
      const auto gate = random.rectified(shape.input_size());
      REQUIRE(difference(run_backward(dy, argmax, gate, shape),
                         reference::gated(reference::maxpool2d_backward(widen(dy), argmax, shape),
                                          widen(gate)),
                         input_extents(shape)) == "");
      const auto whole_dy = random.whole(shape.output_size());
      REQUIRE(inequality(run_backward(whole_dy, argmax, {}, shape),
                         reference::maxpool2d_backward(widen(whole_dy), argmax, shape).value,
                         input_extents(shape)) == "");
    }
  }
}

// All of the gradient goes to the first of equal values, and a gate that is NaN is closed.
TEST_CASE("maxpool2d_backward of ties and NaN gates", "[maxpool2d]") {
  const PoolShape shape = pool_valid(1, 2, 4, 1, {2, 2}, {2, 2});
  REQUIRE(run_backward({5, 7}, {0, 3}, {}, shape) == std::vector<float>{5, 0, 0, 0, 0, 0, 0, 7});
  REQUIRE(run_backward({5, 7}, {0, 3}, {1, 1, 1, 1, 1, 1, 1, kNaN}, shape) ==
          std::vector<float>{5, 0, 0, 0, 0, 0, 0, 0});
  REQUIRE(run_backward({5, kNaN}, {0, 3}, {0, 1, 1, 1, 1, 1, 1, -1}, shape) ==
          std::vector<float>(8, 0.f));
}

TEST_CASE("maxpool2d refuses impossible shapes", "[maxpool2d]") {
  const PoolShape good = pool_valid(1, 4, 4, 2, {2, 2}, {2, 2});
  DeviceCase device;
  const float* in = device.input(std::vector<float>(1024));
  float* out = device.output<float>(1024);
  uint8_t* argmax = device.output<uint8_t>(1024);
  std::vector<PoolShape> bad(15, good);
  bad[0].n = 0;
  bad[1].h = -1;
  bad[2].w = 0;
  bad[3].c = 0;
  bad[4].window_h = 0;
  bad[5].window_w = -1;
  bad[6].stride_h = 0;
  bad[7].stride_w = -1;
  bad[8].pad_h = -1;
  bad[9].pad_w = 2;  // a window within the padding has no largest value
  bad[10].p = 0;
  bad[11].q = -1;
  bad[12].p = 3;  // likewise, after the image
  bad[13].q = 4;
  bad[14] = pool_valid(1, 17, 17, 1, {17, 16}, {1, 1});  // 272 positions do not fit the code
  for (const PoolShape& shape : bad) {
    INFO(to_string(shape));
    REQUIRE_THROWS_AS(maxpool2d_forward(out, argmax, in, shape, device.stream()),
                      std::invalid_argument);
    REQUIRE_THROWS_AS(maxpool2d_backward(out, in, argmax, nullptr, shape, device.stream()),
                      std::invalid_argument);
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
