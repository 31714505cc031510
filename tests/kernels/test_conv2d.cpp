// Convolution, forward and both ways back, tiled and naive, against the reference.
#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

std::vector<ConvShape> shapes() {
  std::vector<ConvShape> all = edge_conv_shapes();
  for (const ConvShape& shape : model_conv_shapes(3)) all.push_back(shape);
  for (const ConvShape& shape : model_conv_pool_shapes(2)) all.push_back(shape);
  return all;
}

Extents input_extents(const ConvShape& s) {
  return {s.n, s.h, s.w, s.c};
}
Extents filter_extents(const ConvShape& s) {
  return {s.r, s.s, s.c, s.k};
}
Extents output_extents(const ConvShape& s) {
  return {s.n, s.p, s.q, s.k};
}

// ---- the two versions of each operation under one signature -------------------------------------
struct Version {
  const char* name;
  decltype(&conv2d_forward) forward;
  decltype(&conv2d_backward_data) backward_data;
};
const Version versions[] = {
    {"tiled", conv2d_forward, conv2d_backward_data},
    {"naive", conv2d_forward_naive, conv2d_backward_data_naive},
};

std::vector<float> run_forward(const Version& version, const std::vector<float>& h_x,
                               const std::vector<float>& h_w, const std::vector<float>& h_bias,
                               bool relu, const ConvShape& shape) {
  DeviceCase device;
  const float* x = device.input(h_x);
  const float* w = device.input(h_w);
  const float* bias = device.input(h_bias);
  float* y = device.output<float>(shape.output_size());
  device.run([&](cudaStream_t stream) { version.forward(y, x, w, bias, relu, shape, stream); });
  return device.result(y);
}

std::vector<float> run_backward_data(const Version& version, const std::vector<float>& h_dy,
                                     const std::vector<float>& h_w,
                                     const std::vector<float>& h_gate, const ConvShape& shape) {
  DeviceCase device;
  const float* dy = device.input(h_dy);
  const float* w = device.input(h_w);
  const float* gate = device.input(h_gate);
  float* dx = device.output<float>(shape.input_size());
  device.run([&](cudaStream_t stream) { version.backward_data(dx, dy, w, gate, shape, stream); });
  return device.result(dx);
}

struct FilterGradient {
  std::vector<float> dw, dbias;
};

FilterGradient run_backward_filter(bool naive, bool with_bias, const std::vector<float>& h_x,
                                   const std::vector<float>& h_dy, const ConvShape& shape) {
  DeviceCase device;
  const float* x = device.input(h_x);
  const float* dy = device.input(h_dy);
  float* dw = device.output<float>(shape.filter_size());
  float* dbias = device.output<float>(with_bias ? size_t(shape.k) : 0);
  float* workspace = device.workspace(naive ? 0 : conv2d_backward_filter_workspace(shape));
  device.run([&](cudaStream_t stream) {
    if (naive)
      conv2d_backward_filter_naive(dw, dbias, x, dy, shape, stream);
    else
      conv2d_backward_filter(dw, dbias, workspace, x, dy, shape, stream);
  });
  return {device.result(dw), with_bias ? device.result(dbias) : std::vector<float>{}};
}

// ---- against the reference ---------------------------------------------------------------------
TEST_CASE("conv2d_forward", "[conv2d]") {
  for (const ConvShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.reals(shape.input_size());
      const auto w = random.reals(shape.filter_size());
      const auto bias = random.reals(size_t(shape.k));
      const auto want =
          reference::relu(reference::conv2d_forward(widen(x), widen(w), widen(bias), shape));
      const auto whole_x = random.whole(shape.input_size());
      const auto whole_w = random.whole(shape.filter_size());
      const auto whole_want = reference::conv2d_forward(widen(whole_x), widen(whole_w), {}, shape);
      for (const Version& version : versions) {
        INFO(version.name);
        REQUIRE(difference(run_forward(version, x, w, bias, true, shape), want,
                           output_extents(shape)) == "");
        REQUIRE(inequality(run_forward(version, whole_x, whole_w, {}, false, shape),
                           whole_want.value, output_extents(shape)) == "");
      }
    }
  }
}

TEST_CASE("conv2d_backward_data", "[conv2d]") {
  for (const ConvShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto dy = random.reals(shape.output_size());
      const auto w = random.reals(shape.filter_size());
      const auto gate = random.rectified(shape.input_size());
      const auto want = reference::gated(
          reference::conv2d_backward_data(widen(dy), widen(w), shape), widen(gate));
      const auto whole_dy = random.whole(shape.output_size());
      const auto whole_w = random.whole(shape.filter_size());
      const auto whole_want =
          reference::conv2d_backward_data(widen(whole_dy), widen(whole_w), shape);
      for (const Version& version : versions) {
        INFO(version.name);
        REQUIRE(difference(run_backward_data(version, dy, w, gate, shape), want,
                           input_extents(shape)) == "");
        REQUIRE(inequality(run_backward_data(version, whole_dy, whole_w, {}, shape),
                           whole_want.value, input_extents(shape)) == "");
      }
    }
  }
}

TEST_CASE("conv2d_backward_filter", "[conv2d]") {
  for (const ConvShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const int64_t rows = int64_t(shape.n) * shape.p * shape.q;
      const auto x = random.reals(shape.input_size());
      const auto dy = random.reals(shape.output_size());
      const auto want_dw = reference::conv2d_backward_filter(widen(x), widen(dy), shape);
      const auto want_dbias = reference::bias_backward(widen(dy), rows, shape.k);
      const auto whole_x = random.whole(shape.input_size());
      const auto whole_dy = random.whole(shape.output_size());
      const auto whole_dw =
          reference::conv2d_backward_filter(widen(whole_x), widen(whole_dy), shape);
      const auto whole_dbias = reference::bias_backward(widen(whole_dy), rows, shape.k);
      for (bool naive : {false, true}) {
        INFO((naive ? "naive" : "tiled"));
        const FilterGradient real = run_backward_filter(naive, true, x, dy, shape);
        REQUIRE(difference(real.dw, want_dw, filter_extents(shape)) == "");
        REQUIRE(difference(real.dbias, want_dbias, {shape.k}) == "");
        const FilterGradient whole = run_backward_filter(naive, true, whole_x, whole_dy, shape);
        REQUIRE(inequality(whole.dw, whole_dw.value, filter_extents(shape)) == "");
        REQUIRE(inequality(whole.dbias, whole_dbias.value, {shape.k}) == "");
      }
    }
  }
}

TEST_CASE("conv2d_backward_filter without the gradient by the bias", "[conv2d]") {
  std::vector<ConvShape> some = model_conv_shapes(2);
  some.push_back(conv_valid(1, 3, 3, 1, 1, {3, 3}));
  some.push_back(conv_same(2, 7, 6, 3, 5, {2, 4}));
  some.push_back(conv_valid(5, 6, 5, 32, 65, {3, 3}));
  some.push_back(conv_valid(2, 15, 16, 1, 32, {3, 3}, {2, 2}));
  for (const ConvShape& shape : some) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.whole(shape.input_size());
      const auto dy = random.whole(shape.output_size());
      const auto want = reference::conv2d_backward_filter(widen(x), widen(dy), shape);
      for (bool naive : {false, true}) {
        INFO((naive ? "naive" : "tiled"));
        REQUIRE(inequality(run_backward_filter(naive, false, x, dy, shape).dw, want.value,
                           filter_extents(shape)) == "");
      }
    }
  }
}

TEST_CASE("conv2d_forward with every mixture of bias and ReLU", "[conv2d]") {
  const ConvShape shape = conv_same(2, 7, 9, 3, 33, {3, 3});
  Random random;
  const auto x = random.whole(shape.input_size());
  const auto w = random.whole(shape.filter_size());
  for (const Version& version : versions)
    for (bool relu : {false, true})
      for (bool with_bias : {false, true}) {
        INFO(version.name << ", ReLU " << relu << ", bias " << with_bias);
        const auto bias = random.whole(with_bias ? size_t(shape.k) : 0, -50, 50);
        auto want = reference::conv2d_forward(widen(x), widen(w), widen(bias), shape);
        if (relu) want = reference::relu(want);
        REQUIRE(inequality(run_forward(version, x, w, bias, relu, shape), want.value,
                           output_extents(shape)) == "");
      }
}

// One value that is not a number must reach all outputs it belongs to, through the ReLU too (a loss
// that became NaN is how a ruined training is noticed), and no other output.
TEST_CASE("conv2d passes NaN on to where it belongs", "[conv2d]") {
  const ConvShape shape = conv_same(2, 6, 7, 5, 6, {3, 3});
  Random random;
  auto x = random.whole(shape.input_size());
  auto dy = random.whole(shape.output_size());
  const auto w = random.whole(shape.filter_size(), 1, 4);
  x[x.size() / 3] = std::numeric_limits<float>::quiet_NaN();
  // In the image's interior: NaN times the zeros of the padding may well be NaN.
  dy[((size_t(1) * 6 + 2) * 7 + 3) * 6 + 1] = std::numeric_limits<float>::quiet_NaN();
  const auto y = reference::relu(reference::conv2d_forward(widen(x), widen(w), {}, shape));
  const auto dx = reference::conv2d_backward_data(widen(dy), widen(w), shape);
  const auto dw = reference::conv2d_backward_filter(widen(x), widen(dy), shape);
  const auto dbias = reference::bias_backward(widen(dy), 2 * 6 * 7, 6);
  for (const Version& version : versions) {
    INFO(version.name);
    REQUIRE(inequality(run_forward(version, x, w, {}, true, shape), y.value,
                       output_extents(shape)) == "");
    REQUIRE(inequality(run_backward_data(version, dy, w, {}, shape), dx.value,
                       input_extents(shape)) == "");
  }
  for (bool naive : {false, true}) {
    INFO((naive ? "naive" : "tiled"));
    const FilterGradient gradient = run_backward_filter(naive, true, x, dy, shape);
    REQUIRE(inequality(gradient.dw, dw.value, filter_extents(shape)) == "");
    REQUIRE(inequality(gradient.dbias, dbias.value, {shape.k}) == "");
  }
}

TEST_CASE("conv2d refuses impossible shapes", "[conv2d]") {
  const ConvShape good = conv_valid(1, 4, 4, 2, 2, {3, 3});
  DeviceCase device;
  const float* in = device.input(std::vector<float>(256));
  float* out = device.output<float>(256);
  float* workspace = device.workspace(1 << 16);
  std::vector<ConvShape> bad(13, good);
  bad[0].n = 0;
  bad[1].h = -1;
  bad[2].w = 0;
  bad[3].c = 0;
  bad[4].k = -2;
  bad[5].r = 0;
  bad[6].s = 0;
  bad[7].stride_h = 0;
  bad[8].stride_w = -1;
  bad[9].pad_h = -1;
  bad[10].pad_w = -1;
  bad[11].p = 0;
  bad[12].q = 0;
  for (const ConvShape& shape : bad) {
    INFO(to_string(shape));
    const cudaStream_t stream = device.stream();
    for (const Version& version : versions) {
      REQUIRE_THROWS_AS(version.forward(out, in, in, nullptr, false, shape, stream),
                        std::invalid_argument);
      REQUIRE_THROWS_AS(version.backward_data(out, in, in, nullptr, shape, stream),
                        std::invalid_argument);
    }
    REQUIRE_THROWS_AS(conv2d_backward_filter(out, nullptr, workspace, in, in, shape, stream),
                      std::invalid_argument);
    REQUIRE_THROWS_AS(conv2d_backward_filter_naive(out, nullptr, in, in, shape, stream),
                      std::invalid_argument);
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
