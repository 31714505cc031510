// Dense layers, forward and both ways back, tiled and naive, against the reference.
#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

std::vector<DenseShape> shapes() {
  std::vector<DenseShape> all = edge_dense_shapes();
  for (const DenseShape& shape : model_dense_shapes(33)) all.push_back(shape);
  for (const DenseShape& shape : model_dense_shapes(128)) all.push_back(shape);
  all.push_back({20011, 2, 1});  // long sums in the gradients by w and bias
  return all;
}

struct Version {
  const char* name;
  decltype(&dense_forward) forward;
  decltype(&dense_backward_data) backward_data;
  decltype(&dense_backward_filter) backward_filter;
};
const Version versions[] = {
    {"tiled", dense_forward, dense_backward_data, dense_backward_filter},
    {"naive", dense_forward_naive, dense_backward_data_naive, dense_backward_filter_naive},
};

std::vector<float> run_forward(const Version& version, const std::vector<float>& h_x,
                               const std::vector<float>& h_w, const std::vector<float>& h_bias,
                               bool relu, const DenseShape& shape) {
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
                                     const std::vector<float>& h_gate, const DenseShape& shape) {
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

FilterGradient run_backward_filter(const Version& version, bool with_bias,
                                   const std::vector<float>& h_x, const std::vector<float>& h_dy,
                                   const DenseShape& shape) {
  DeviceCase device;
  const float* x = device.input(h_x);
  const float* dy = device.input(h_dy);
  float* dw = device.output<float>(shape.filter_size());
  float* dbias = device.output<float>(with_bias ? size_t(shape.out) : 0);
  device.run(
      [&](cudaStream_t stream) { version.backward_filter(dw, dbias, x, dy, shape, stream); });
  return {device.result(dw), with_bias ? device.result(dbias) : std::vector<float>{}};
}

TEST_CASE("dense_forward", "[dense]") {
  for (const DenseShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.reals(shape.input_size());
      const auto w = random.reals(shape.filter_size());
      const auto bias = random.reals(size_t(shape.out));
      const auto want =
          reference::relu(reference::dense_forward(widen(x), widen(w), widen(bias), shape));
      const auto whole_x = random.whole(shape.input_size());
      const auto whole_w = random.whole(shape.filter_size());
      const auto whole_want = reference::dense_forward(widen(whole_x), widen(whole_w), {}, shape);
      for (const Version& version : versions) {
        INFO(version.name);
        REQUIRE(difference(run_forward(version, x, w, bias, true, shape), want,
                           {shape.n, shape.out}) == "");
        REQUIRE(inequality(run_forward(version, whole_x, whole_w, {}, false, shape),
                           whole_want.value, {shape.n, shape.out}) == "");
      }
    }
  }
}

TEST_CASE("dense_backward_data", "[dense]") {
  for (const DenseShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto dy = random.reals(shape.output_size());
      const auto w = random.reals(shape.filter_size());
      const auto gate = random.rectified(shape.input_size());
      const auto want =
          reference::gated(reference::dense_backward_data(widen(dy), widen(w), shape), widen(gate));
      const auto whole_dy = random.whole(shape.output_size());
      const auto whole_w = random.whole(shape.filter_size());
      const auto whole_want =
          reference::dense_backward_data(widen(whole_dy), widen(whole_w), shape);
      for (const Version& version : versions) {
        INFO(version.name);
        REQUIRE(difference(run_backward_data(version, dy, w, gate, shape), want,
                           {shape.n, shape.in}) == "");
        REQUIRE(inequality(run_backward_data(version, whole_dy, whole_w, {}, shape),
                           whole_want.value, {shape.n, shape.in}) == "");
      }
    }
  }
}

TEST_CASE("dense_backward_filter", "[dense]") {
  for (const DenseShape& shape : shapes()) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.reals(shape.input_size());
      const auto dy = random.reals(shape.output_size());
      const auto want_dw = reference::dense_backward_filter(widen(x), widen(dy), shape);
      const auto want_dbias = reference::bias_backward(widen(dy), shape.n, shape.out);
      const auto whole_x = random.whole(shape.input_size());
      const auto whole_dy = random.whole(shape.output_size());
      const auto whole_dw =
          reference::dense_backward_filter(widen(whole_x), widen(whole_dy), shape);
      const auto whole_dbias = reference::bias_backward(widen(whole_dy), shape.n, shape.out);
      for (const Version& version : versions) {
        INFO(version.name);
        const FilterGradient real = run_backward_filter(version, true, x, dy, shape);
        REQUIRE(difference(real.dw, want_dw, {shape.in, shape.out}) == "");
        REQUIRE(difference(real.dbias, want_dbias, {shape.out}) == "");
        const FilterGradient whole = run_backward_filter(version, true, whole_x, whole_dy, shape);
        REQUIRE(inequality(whole.dw, whole_dw.value, {shape.in, shape.out}) == "");
        REQUIRE(inequality(whole.dbias, whole_dbias.value, {shape.out}) == "");
      }
    }
  }
}

TEST_CASE("dense_backward_filter without the gradient by the bias", "[dense]") {
  for (const DenseShape& shape :
       {DenseShape{1, 1, 1}, DenseShape{9, 21, 35}, DenseShape{130, 128, 10}}) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto x = random.whole(shape.input_size());
      const auto dy = random.whole(shape.output_size());
      const auto want = reference::dense_backward_filter(widen(x), widen(dy), shape);
      for (const Version& version : versions) {
        INFO(version.name);
        REQUIRE(inequality(run_backward_filter(version, false, x, dy, shape).dw, want.value,
                           {shape.in, shape.out}) == "");
      }
    }
  }
}

TEST_CASE("dense_forward with every mixture of bias and ReLU", "[dense]") {
  const DenseShape shape = {9, 21, 35};
  Random random;
  const auto x = random.whole(shape.input_size());
  const auto w = random.whole(shape.filter_size());
  for (const Version& version : versions)
    for (bool relu : {false, true})
      for (bool with_bias : {false, true}) {
        INFO(version.name << ", ReLU " << relu << ", bias " << with_bias);
        const auto bias = random.whole(with_bias ? size_t(shape.out) : 0, -50, 50);
        auto want = reference::dense_forward(widen(x), widen(w), widen(bias), shape);
        if (relu) want = reference::relu(want);
        REQUIRE(inequality(run_forward(version, x, w, bias, relu, shape), want.value,
                           {shape.n, shape.out}) == "");
      }
}

TEST_CASE("dense passes NaN on to where it belongs", "[dense]") {
  const DenseShape shape = {5, 18, 7};
  Random random;
  auto x = random.whole(shape.input_size());
  auto dy = random.whole(shape.output_size());
  const auto w = random.whole(shape.filter_size(), 1, 4);
  x[x.size() / 3] = dy[dy.size() / 3] = std::numeric_limits<float>::quiet_NaN();
  const auto y = reference::relu(reference::dense_forward(widen(x), widen(w), {}, shape));
  const auto dx = reference::dense_backward_data(widen(dy), widen(w), shape);
  const auto dw = reference::dense_backward_filter(widen(x), widen(dy), shape);
  const auto dbias = reference::bias_backward(widen(dy), shape.n, shape.out);
  for (const Version& version : versions) {
    INFO(version.name);
    REQUIRE(inequality(run_forward(version, x, w, {}, true, shape), y.value,
                       {shape.n, shape.out}) == "");
    REQUIRE(inequality(run_backward_data(version, dy, w, {}, shape), dx.value,
                       {shape.n, shape.in}) == "");
    const FilterGradient gradient = run_backward_filter(version, true, x, dy, shape);
    REQUIRE(inequality(gradient.dw, dw.value, {shape.in, shape.out}) == "");
    REQUIRE(inequality(gradient.dbias, dbias.value, {shape.out}) == "");
  }
}

TEST_CASE("dense refuses impossible shapes", "[dense]") {
  DeviceCase device;
  const float* in = device.input(std::vector<float>(64));
  float* out = device.output<float>(64);
  for (const DenseShape& shape :
       {DenseShape{0, 4, 4}, DenseShape{4, 0, 4}, DenseShape{4, 4, 0}, DenseShape{-1, 4, 4}}) {
    INFO(to_string(shape));
    const cudaStream_t stream = device.stream();
    for (const Version& version : versions) {
      REQUIRE_THROWS_AS(version.forward(out, in, in, nullptr, false, shape, stream),
                        std::invalid_argument);
      REQUIRE_THROWS_AS(version.backward_data(out, in, in, nullptr, shape, stream),
                        std::invalid_argument);
      REQUIRE_THROWS_AS(version.backward_filter(out, nullptr, in, in, shape, stream),
                        std::invalid_argument);
    }
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
