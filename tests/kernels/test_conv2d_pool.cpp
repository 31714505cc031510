// A convolution and the 2x2 max pooling after it as one operation, the forward and both backward
// passes, against the reference's two steps.
#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/layer_runs.h"

namespace mnist::MNIST_TARGET {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<ConvShape> fitting_shapes() {
  std::vector<ConvShape> all = edge_conv_pool_shapes();
  for (const ConvShape& shape : model_conv_pool_shapes(3)) all.push_back(shape);
  return all;
}

PoolShape pool_of(const ConvShape& s) {
  return pool_valid(s.n, s.p, s.q, s.k, {2, 2}, {2, 2});
}

Extents pooled_extents(const ConvShape& s) {
  return output_extents(pool_of(s));
}

// ---- forward -----------------------------------------------------------------------------------
struct Pooled {
  std::vector<float> y;
  std::vector<uint8_t> argmax;
};

Pooled run_forward(const std::vector<float>& h_x, const std::vector<float>& h_w,
                   const std::vector<float>& h_bias, bool relu, bool with_argmax,
                   const ConvShape& shape) {
  const size_t size = pool_of(shape).output_size();
  DeviceCase device;
  const float* x = device.input(h_x);
  const float* w = device.input(h_w);
  const float* bias = device.input(h_bias);
  float* y = device.output<float>(size);
  uint8_t* argmax = device.output<uint8_t>(with_argmax ? size : 0);
  device.run([&](cudaStream_t stream) {
    conv2d_pool_forward(y, argmax, x, w, bias, relu, shape, stream);
  });
  return {device.result(y), with_argmax ? device.result(argmax) : std::vector<uint8_t>{}};
}

// The largest convolution of each window; its magnitude is the window's largest, since any of the
// four may have won by a rounding error.
reference::Sums pool(const reference::Sums& z, const ConvShape& shape) {
  return {reference::maxpool2d_forward(z.value, pool_of(shape)).y,
          reference::maxpool2d_forward(z.magnitude, pool_of(shape)).y, z.length};
}

// On whole numbers, where float arithmetic is exact: values and winners, with and without codes.
void require_exact_forward(const std::vector<float>& x, const std::vector<float>& w,
                           const std::vector<float>& bias, bool relu, const ConvShape& shape) {
  auto z = reference::conv2d_forward(widen(x), widen(w), widen(bias), shape);
  if (relu) z = reference::relu(z);
  const reference::Pooled want = reference::maxpool2d_forward(z.value, pool_of(shape));
  const Pooled got = run_forward(x, w, bias, relu, true, shape);
  REQUIRE(inequality(got.y, want.y, pooled_extents(shape)) == "");
  REQUIRE(inequality(got.argmax, want.argmax, pooled_extents(shape)) == "");
  const Pooled without = run_forward(x, w, bias, relu, false, shape);
  REQUIRE(inequality(without.y, want.y, pooled_extents(shape)) == "");
}

TEST_CASE("conv2d_pool_forward", "[conv2d_pool]") {
  for (const ConvShape& shape : fitting_shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.reals(shape.input_size());
      const auto w = random.reals(shape.filter_size());
      const auto bias = random.reals(size_t(shape.k));
      const auto z =
          reference::relu(reference::conv2d_forward(widen(x), widen(w), widen(bias), shape));
      REQUIRE(difference(run_forward(x, w, bias, true, true, shape).y, pool(z, shape),
                         pooled_extents(shape)) == "");
      // Wide-spread sums, which the ReLU cuts.
      require_exact_forward(random.whole(shape.input_size()), random.whole(shape.filter_size()),
                            random.whole(size_t(shape.k), -9, 9), true, shape);
      // A handful of different sums: most windows have several winners.
      require_exact_forward(random.whole(shape.input_size(), 0, 1),
                            random.whole(shape.filter_size(), 0, 1), {}, false, shape);
    }
  }
}

TEST_CASE("conv2d_pool_forward with every mixture of bias, ReLU and ties", "[conv2d_pool]") {
  for (const ConvShape& shape : {conv_pool_same(2, 6, 10, 3, 33), conv_pool(2, 12, 6, 1, 32)}) {
    Random random;
    const size_t in = shape.input_size(), filter = shape.filter_size();
    struct Data {
      const char* name;
      std::vector<float> x, w;
    };
    for (const Data& data : {
             Data{"whole numbers", random.whole(in), random.whole(filter)},
             Data{"few values", random.whole(in, -1, 1), random.whole(filter, -1, 0)},
             Data{"a blank image", std::vector<float>(in, 0.f), random.whole(filter)},
             Data{"everything equal", std::vector<float>(in, 2.f), std::vector<float>(filter, 1.f)},
             Data{"all dead", random.whole(in, 1, 3), random.whole(filter, -3, -1)},
         })
      for (bool relu : {false, true})
        for (bool with_bias : {false, true}) {
          INFO(to_string(shape) << ", " << data.name << ", ReLU " << relu << ", bias "
                                << with_bias);
          const auto bias = random.whole(with_bias ? size_t(shape.k) : 0, -5, 5);
          require_exact_forward(data.x, data.w, bias, relu, shape);
        }
  }
}

// As in maxpool2d: a NaN stays if it comes first in its window and loses otherwise.
TEST_CASE("conv2d_pool_forward passes NaN on to what depends on it", "[conv2d_pool]") {
  for (const ConvShape& shape :
       {conv_pool(2, 6, 8, 5, 6), conv_pool(2, 6, 8, 1, 33), conv_pool_same(1, 10, 8, 32, 32)})
    for (bool relu : {false, true}) {
      INFO(to_string(shape) << ", ReLU " << relu);
      Random random;
      auto x = random.whole(shape.input_size());
      // One value in each row parity and column parity.
      for (int row : {2, 5}) {
        const int column = row == 2 ? 3 : 6;
        x[((size_t(shape.n - 1) * shape.h + row) * shape.w + column) * shape.c + shape.c / 2] =
            kNaN;
      }
      require_exact_forward(x, random.whole(shape.filter_size(), 1, 4),
                            random.whole(size_t(shape.k), -9, 9), relu, shape);
    }
}

// ---- backward ----------------------------------------------------------------------------------
std::vector<float> run_backward_data(const std::vector<float>& h_dy,
                                     const std::vector<uint8_t>& h_argmax,
                                     const std::vector<float>& h_w,
                                     const std::vector<float>& h_gate, const ConvShape& shape) {
  const auto launch = [&](float* dx, const float* dy, const uint8_t* argmax, const float* w,
                          const float* gate, cudaStream_t stream) {
    conv2d_pool_backward_data(dx, dy, argmax, w, gate, shape, stream);
  };
  return one_output(shape.input_size(), launch, h_dy, h_argmax, h_w, h_gate);
}

FilterGradient run_backward_filter(const std::vector<float>& h_x, const std::vector<float>& h_dy,
                                   const std::vector<uint8_t>& h_argmax, bool with_bias,
                                   const ConvShape& shape) {
  const auto launch = [&](float* dw, float* dbias, float* workspace, const float* x,
                          const float* dy, const uint8_t* argmax, cudaStream_t stream) {
    conv2d_pool_backward_filter(dw, dbias, workspace, x, dy, argmax, shape, stream);
  };
  return filter_gradient({shape.filter_size(), with_bias ? size_t(shape.k) : 0,
                          conv2d_pool_backward_filter_workspace(shape)},
                         launch, h_x, h_dy, h_argmax);
}

// The gradient between the two layers.
reference::Tensor unpool(const std::vector<float>& dy, const std::vector<uint8_t>& argmax,
                         const ConvShape& shape) {
  return reference::maxpool2d_backward(widen(dy), argmax, pool_of(shape)).value;
}

TEST_CASE("conv2d_pool_backward_data", "[conv2d_pool]") {
  for (const ConvShape& shape : fitting_shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const size_t size = pool_of(shape).output_size();
      const auto argmax = random.bytes(size, 0, 3);
      const auto dy = random.reals(size);
      const auto w = random.reals(shape.filter_size());
      const auto gate = random.rectified(shape.input_size());
      REQUIRE(difference(run_backward_data(dy, argmax, w, gate, shape),
                         reference::gated(reference::conv2d_backward_data(unpool(dy, argmax, shape),
                                                                          widen(w), shape),
                                          widen(gate)),
                         input_extents(shape)) == "");
      const auto whole_dy = random.whole(size);
      const auto whole_w = random.whole(shape.filter_size());
      REQUIRE(inequality(run_backward_data(whole_dy, argmax, whole_w, {}, shape),
                         reference::conv2d_backward_data(unpool(whole_dy, argmax, shape),
                                                         widen(whole_w), shape)
                             .value,
                         input_extents(shape)) == "");
    }
  }
}

TEST_CASE("conv2d_pool_backward_filter", "[conv2d_pool]") {
  for (const ConvShape& shape : fitting_shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const size_t size = pool_of(shape).output_size();
      const int64_t rows = int64_t(shape.n) * shape.p * shape.q;
      const auto argmax = random.bytes(size, 0, 3);
      const auto x = random.reals(shape.input_size());
      const auto dy = random.reals(size);
      const auto dz = unpool(dy, argmax, shape);
      const FilterGradient real = run_backward_filter(x, dy, argmax, true, shape);
      REQUIRE(difference(real.dw, reference::conv2d_backward_filter(widen(x), dz, shape),
                         filter_extents(shape)) == "");
      REQUIRE(difference(real.dbias, reference::bias_backward(dz, rows, shape.k), {shape.k}) == "");

      const auto whole_x = random.whole(shape.input_size());
      const auto whole_dy = random.whole(size);
      const auto whole_dz = unpool(whole_dy, argmax, shape);
      const auto whole_dw = reference::conv2d_backward_filter(widen(whole_x), whole_dz, shape);
      const FilterGradient whole = run_backward_filter(whole_x, whole_dy, argmax, true, shape);
      REQUIRE(inequality(whole.dw, whole_dw.value, filter_extents(shape)) == "");
      REQUIRE(inequality(whole.dbias, reference::bias_backward(whole_dz, rows, shape.k).value,
                         {shape.k}) == "");
      REQUIRE(inequality(run_backward_filter(whole_x, whole_dy, argmax, false, shape).dw,
                         whole_dw.value, filter_extents(shape)) == "");
    }
  }
}

// Each code alone: a kernel that confuses two of them would still be right for a symmetric filter.
TEST_CASE("conv2d_pool_backward of the same winner in every window", "[conv2d_pool]") {
  for (const ConvShape& shape : {conv_pool(2, 6, 4, 3, 33), conv_pool_same(2, 4, 6, 32, 8)})
    for (uint8_t winner = 0; winner < 4; ++winner) {
      INFO(to_string(shape) << ", winner " << int(winner));
      Random random;
      const size_t size = pool_of(shape).output_size();
      const std::vector<uint8_t> argmax(size, winner);
      const auto x = random.whole(shape.input_size());
      const auto w = random.whole(shape.filter_size());
      const auto dy = random.whole(size);
      const auto dz = unpool(dy, argmax, shape);
      REQUIRE(inequality(run_backward_data(dy, argmax, w, {}, shape),
                         reference::conv2d_backward_data(dz, widen(w), shape).value,
                         input_extents(shape)) == "");
      REQUIRE(inequality(run_backward_filter(x, dy, argmax, true, shape).dw,
                         reference::conv2d_backward_filter(widen(x), dz, shape).value,
                         filter_extents(shape)) == "");
    }
}

TEST_CASE("conv2d_pool_backward passes NaN on to what depends on it", "[conv2d_pool]") {
  const ConvShape shape = conv_pool_same(2, 6, 8, 5, 6);
  Random random;
  const size_t size = pool_of(shape).output_size();
  const auto argmax = random.bytes(size, 0, 3);
  const auto x = random.whole(shape.input_size());
  const auto w = random.whole(shape.filter_size(), 1, 4);
  auto dy = random.whole(size);
  // In the image's interior: NaN times the zeros of the padding may well be NaN.
  dy[((size_t(1) * 3 + 1) * 4 + 2) * 6 + 3] = kNaN;
  const auto dz = unpool(dy, argmax, shape);
  REQUIRE(inequality(run_backward_data(dy, argmax, w, {}, shape),
                     reference::conv2d_backward_data(dz, widen(w), shape).value,
                     input_extents(shape)) == "");
  // A value of the gradient that closed gates alone see is gone.
  const std::vector<float> closed(shape.input_size(), kNaN);
  REQUIRE(inequality(run_backward_data(dy, argmax, w, closed, shape),
                     std::vector<float>(shape.input_size(), 0.f), input_extents(shape)) == "");
  const FilterGradient gradient = run_backward_filter(x, dy, argmax, true, shape);
  REQUIRE(inequality(gradient.dw, reference::conv2d_backward_filter(widen(x), dz, shape).value,
                     filter_extents(shape)) == "");
  REQUIRE(inequality(gradient.dbias, reference::bias_backward(dz, 2 * 6 * 8, 6).value, {shape.k}) ==
          "");
}

// ---- shapes ------------------------------------------------------------------------------------
TEST_CASE("conv2d_pool_fits", "[conv2d_pool]") {
  for (const ConvShape& shape : fitting_shapes()) {
    INFO(to_string(shape));
    REQUIRE(conv2d_pool_fits(shape));
  }
  for (const ConvShape& shape : other_conv_pool_shapes()) {
    INFO(to_string(shape));
    REQUIRE(!conv2d_pool_fits(shape));
  }
  for (const ConvShape& shape : model_conv_shapes(4)) {
    INFO(to_string(shape));
    REQUIRE(conv2d_pool_fits(shape) == (shape.p % 2 == 0 && shape.q % 2 == 0));
  }
}

TEST_CASE("conv2d_pool refuses impossible shapes", "[conv2d_pool]") {
  const ConvShape good = conv_pool(1, 4, 4, 2, 2);
  DeviceCase device;
  const float* in = device.input(std::vector<float>(1024));
  const uint8_t* codes = device.input(std::vector<uint8_t>(1024));
  float* out = device.output<float>(1024);
  uint8_t* argmax = device.output<uint8_t>(1024);
  float* workspace = device.workspace(1 << 16);
  const cudaStream_t stream = device.stream();
  const auto require_throws = [&](const ConvShape& shape) {
    REQUIRE_THROWS_AS(conv2d_pool_forward(out, argmax, in, in, nullptr, false, shape, stream),
                      std::invalid_argument);
    REQUIRE_THROWS_AS(conv2d_pool_backward_data(out, in, codes, in, nullptr, shape, stream),
                      std::invalid_argument);
    REQUIRE_THROWS_AS(
        conv2d_pool_backward_filter(out, nullptr, workspace, in, in, codes, shape, stream),
        std::invalid_argument);
  };
  std::vector<ConvShape> bad = impossible_conv_shapes(good);
  bad.insert(bad.end(), 2, good);
  bad[bad.size() - 2].p = 3;
  bad[bad.size() - 1].q = 3;
  for (const ConvShape& shape : bad) {
    INFO(to_string(shape));
    require_throws(shape);
  }
  for (const ConvShape& shape : other_conv_pool_shapes()) {
    INFO(to_string(shape));
    require_throws(shape);
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
