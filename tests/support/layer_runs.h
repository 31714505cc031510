// Layers on the device, and what holds for every layer with a kernel and a bias. A new layer's test
// starts here: give it a LayerVersion, or call one_output() and filter_gradient() if its launchers
// have a signature of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/cases.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"
#include "tests/support/slow_device.h"

namespace mnist::MNIST_TARGET {

// ---- one launch on a DeviceCase -----------------------------------------------------------------
// The output, of `size` floats, of launch(output, inputs..., stream).
template <typename Launch, typename... T>
std::vector<float> one_output(size_t size, Launch launch, const std::vector<T>&... inputs) {
  DeviceCase device;
  const std::tuple<const T*...> pointers{device.input(inputs)...};
  float* output = device.output<float>(size);
  device.run([&](cudaStream_t stream) {
    std::apply([&](const T*... input) { launch(output, input..., stream); }, pointers);
  });
  return device.result(output);
}

struct FilterGradient {
  std::vector<float> dw;
  std::vector<float> dbias;  // empty if it was not asked for
};

// How many floats each buffer of a backward_filter has; 0: a null pointer.
struct FilterGradientSizes {
  size_t dw, dbias, workspace;
};

// The outputs of launch(dw, dbias, workspace, inputs..., stream).
template <typename Launch, typename... T>
FilterGradient filter_gradient(const FilterGradientSizes& sizes, Launch launch,
                               const std::vector<T>&... inputs) {
  DeviceCase device;
  const std::tuple<const T*...> pointers{device.input(inputs)...};
  float* dw = device.output<float>(sizes.dw);
  float* dbias = device.output<float>(sizes.dbias);
  float* workspace = device.workspace(sizes.workspace);
  device.run([&](cudaStream_t stream) {
    std::apply([&](const T*... input) { launch(dw, dbias, workspace, input..., stream); },
               pointers);
  });
  return {device.result(dw), dbias ? device.result(dbias) : std::vector<float>{}};
}

// ---- a layer with a kernel and a bias -----------------------------------------------------------
// One of several kernels for the same operations. The signatures are those of kernels/kernels.h; a
// launcher without workspace ignores it.
template <typename Shape>
struct LayerVersion {
  const char* name;
  void (*forward)(float* y, const float* x, const float* w, const float* bias, bool relu,
                  const Shape& shape, cudaStream_t stream);
  void (*backward_data)(float* dx, const float* dy, const float* w, const float* gate,
                        const Shape& shape, cudaStream_t stream);
  void (*backward_filter)(float* dw, float* dbias, float* workspace, const float* x,
                          const float* dy, const Shape& shape, cudaStream_t stream);
  size_t (*workspace)(const Shape& shape);  // floats
};

template <typename Shape>
size_t no_workspace(const Shape&) {
  return 0;
}

// The same operations by the reference.
template <typename Shape>
struct LayerReference {
  using Tensor = reference::Tensor;
  reference::Sums (*forward)(const Tensor& x, const Tensor& w, const Tensor& bias,
                             const Shape& shape);
  reference::Sums (*backward_data)(const Tensor& dy, const Tensor& w, const Shape& shape);
  reference::Sums (*backward_filter)(const Tensor& x, const Tensor& dy, const Shape& shape);

  reference::Sums bias_gradient(const std::vector<float>& dy, const Shape& shape) const {
    const int units = int(output_extents(shape).back());
    return reference::bias_backward(widen(dy), int64_t(dy.size()) / units, units);
  }
};

// What holds for such a layer, in each of its versions (on a slow device: in the first). "Whole"
// numbers are small enough for float32 to get every sum exactly, so that results must be equal to
// the reference.
template <typename Shape>
class LayerCheck {
 public:
  LayerCheck(const LayerReference<Shape>& want, std::vector<LayerVersion<Shape>> versions)
      : want_(want), versions_(std::move(versions)) {
    if (slow_device()) versions_.resize(1);
  }

  void forward(const Shape& shape) const {
    Random random;
    const auto x = random.reals(shape.input_size());
    const auto w = random.reals(shape.filter_size());
    const auto bias = random.reals(units(shape));
    const auto want = reference::relu(want_.forward(widen(x), widen(w), widen(bias), shape));
    const auto whole_x = random.whole(shape.input_size());
    const auto whole_w = random.whole(shape.filter_size());
    const auto whole_want = want_.forward(widen(whole_x), widen(whole_w), {}, shape);
    for_each_version([&](const Version& version) {
      REQUIRE(difference(run_forward(version, x, w, bias, true, shape), want,
                         output_extents(shape)) == "");
      REQUIRE(inequality(run_forward(version, whole_x, whole_w, {}, false, shape), whole_want.value,
                         output_extents(shape)) == "");
    });
  }

  void backward_data(const Shape& shape) const {
    Random random;
    const auto dy = random.reals(shape.output_size());
    const auto w = random.reals(shape.filter_size());
    const auto gate = random.rectified(shape.input_size());
    const auto want =
        reference::gated(want_.backward_data(widen(dy), widen(w), shape), widen(gate));
    const auto whole_dy = random.whole(shape.output_size());
    const auto whole_w = random.whole(shape.filter_size());
    const auto whole_want = want_.backward_data(widen(whole_dy), widen(whole_w), shape);
    for_each_version([&](const Version& version) {
      REQUIRE(difference(run_backward_data(version, dy, w, gate, shape), want,
                         input_extents(shape)) == "");
      REQUIRE(inequality(run_backward_data(version, whole_dy, whole_w, {}, shape), whole_want.value,
                         input_extents(shape)) == "");
    });
  }

  void backward_filter(const Shape& shape) const {
    Random random;
    const auto x = random.reals(shape.input_size());
    const auto dy = random.reals(shape.output_size());
    const auto want_dw = want_.backward_filter(widen(x), widen(dy), shape);
    const auto want_dbias = want_.bias_gradient(dy, shape);
    const auto whole_x = random.whole(shape.input_size());
    const auto whole_dy = random.whole(shape.output_size());
    const auto whole_dw = want_.backward_filter(widen(whole_x), widen(whole_dy), shape);
    const auto whole_dbias = want_.bias_gradient(whole_dy, shape);
    for_each_version([&](const Version& version) {
      const FilterGradient real = run_backward_filter(version, true, x, dy, shape);
      REQUIRE(difference(real.dw, want_dw, filter_extents(shape)) == "");
      REQUIRE(difference(real.dbias, want_dbias, {int64_t(units(shape))}) == "");
      require_equal(run_backward_filter(version, true, whole_x, whole_dy, shape), whole_dw,
                    whole_dbias, shape);
    });
  }

  void backward_filter_without_bias(const Shape& shape) const {
    Random random;
    const auto x = random.whole(shape.input_size());
    const auto dy = random.whole(shape.output_size());
    const auto want = want_.backward_filter(widen(x), widen(dy), shape);
    for_each_version([&](const Version& version) {
      REQUIRE(inequality(run_backward_filter(version, false, x, dy, shape).dw, want.value,
                         filter_extents(shape)) == "");
    });
  }

  // Every mixture of bias and ReLU.
  void mixtures(const Shape& shape) const {
    Random random;
    const auto x = random.whole(shape.input_size());
    const auto w = random.whole(shape.filter_size());
    for_each_version([&](const Version& version) {
      for (bool relu : {false, true})
        for (bool with_bias : {false, true}) {
          INFO("ReLU " << relu << ", bias " << with_bias);
          const auto bias = random.whole(with_bias ? units(shape) : 0, -50, 50);
          auto want = want_.forward(widen(x), widen(w), widen(bias), shape);
          if (relu) want = reference::relu(want);
          REQUIRE(inequality(run_forward(version, x, w, bias, relu, shape), want.value,
                             output_extents(shape)) == "");
        }
    });
  }

  // A NaN in x and one in dy[dy_index] must each reach all outputs that depend on it, through the
  // ReLU too (a loss that became NaN is how a ruined training is noticed), and no other output.
  void nan(const Shape& shape, size_t dy_index) const {
    Random random;
    auto x = random.whole(shape.input_size());
    auto dy = random.whole(shape.output_size());
    const auto w = random.whole(shape.filter_size(), 1, 4);
    x[x.size() / 3] = dy[dy_index] = std::numeric_limits<float>::quiet_NaN();
    const auto y = reference::relu(want_.forward(widen(x), widen(w), {}, shape));
    const auto dx = want_.backward_data(widen(dy), widen(w), shape);
    const auto dw = want_.backward_filter(widen(x), widen(dy), shape);
    const auto dbias = want_.bias_gradient(dy, shape);
    for_each_version([&](const Version& version) {
      REQUIRE(inequality(run_forward(version, x, w, {}, true, shape), y.value,
                         output_extents(shape)) == "");
      REQUIRE(inequality(run_backward_data(version, dy, w, {}, shape), dx.value,
                         input_extents(shape)) == "");
      require_equal(run_backward_filter(version, true, x, dy, shape), dw, dbias, shape);
    });
  }

  void refuses(const Shape& shape) const {
    INFO(to_string(shape));
    DeviceCase device;
    const float* in = device.input(std::vector<float>(256));
    float* out = device.output<float>(256);
    float* workspace = device.workspace(1 << 16);
    const cudaStream_t stream = device.stream();
    for_each_version([&](const Version& version) {
      REQUIRE_THROWS_AS(version.forward(out, in, in, nullptr, false, shape, stream),
                        std::invalid_argument);
      REQUIRE_THROWS_AS(version.backward_data(out, in, in, nullptr, shape, stream),
                        std::invalid_argument);
      REQUIRE_THROWS_AS(version.backward_filter(out, nullptr, workspace, in, in, shape, stream),
                        std::invalid_argument);
    });
  }

 private:
  using Version = LayerVersion<Shape>;

  static size_t units(const Shape& shape) { return size_t(output_extents(shape).back()); }

  template <typename Check>
  void for_each_version(Check check) const {
    for (const Version& version : versions_) {
      INFO(version.name);
      check(version);
    }
  }

  static std::vector<float> run_forward(const Version& version, const std::vector<float>& h_x,
                                        const std::vector<float>& h_w,
                                        const std::vector<float>& h_bias, bool relu,
                                        const Shape& shape) {
    const auto launch = [&](float* y, const float* x, const float* w, const float* bias,
                            cudaStream_t stream) {
      version.forward(y, x, w, bias, relu, shape, stream);
    };
    return one_output(shape.output_size(), launch, h_x, h_w, h_bias);
  }

  static std::vector<float> run_backward_data(const Version& version,
                                              const std::vector<float>& h_dy,
                                              const std::vector<float>& h_w,
                                              const std::vector<float>& h_gate,
                                              const Shape& shape) {
    const auto launch = [&](float* dx, const float* dy, const float* w, const float* gate,
                            cudaStream_t stream) {
      version.backward_data(dx, dy, w, gate, shape, stream);
    };
    return one_output(shape.input_size(), launch, h_dy, h_w, h_gate);
  }

  static FilterGradient run_backward_filter(const Version& version, bool with_bias,
                                            const std::vector<float>& h_x,
                                            const std::vector<float>& h_dy, const Shape& shape) {
    const auto launch = [&](float* dw, float* dbias, float* workspace, const float* x,
                            const float* dy, cudaStream_t stream) {
      version.backward_filter(dw, dbias, workspace, x, dy, shape, stream);
    };
    return filter_gradient(
        {shape.filter_size(), with_bias ? units(shape) : 0, version.workspace(shape)}, launch, h_x,
        h_dy);
  }

  static void require_equal(const FilterGradient& got, const reference::Sums& dw,
                            const reference::Sums& dbias, const Shape& shape) {
    REQUIRE(inequality(got.dw, dw.value, filter_extents(shape)) == "");
    REQUIRE(inequality(got.dbias, dbias.value, {int64_t(units(shape))}) == "");
  }

  LayerReference<Shape> want_;
  std::vector<Version> versions_;
};

}  // namespace mnist::MNIST_TARGET
