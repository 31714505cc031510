// The kernels' gradients against finite differences of the double-precision reference: each kind of
// layer under the loss sum(r * y) with random r, and a whole net under its cross-entropy.
#include <functional>

#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using reference::Tensor;

// Central difference in every coordinate of `point`, which f sees by reference.
Tensor numeric_gradient(Tensor& point, double h, const std::function<double()>& f) {
  Tensor gradient;
  for (double& coordinate : point) {
    const double centre = coordinate;
    coordinate = centre + h;
    const double above = f();
    coordinate = centre - h;
    const double below = f();
    coordinate = centre;
    gradient.push_back((above - below) / (2 * h));
  }
  return gradient;
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Float32 gradients are right to some parts in 2^-23 of the tensor's largest component.
std::string gradient_difference(const std::vector<float>& actual, const Tensor& expected,
                                const Extents& extents) {
  double largest = 0;
  for (double value : expected) largest = std::max(largest, std::fabs(value));
  return difference(actual, {expected, Tensor(expected.size(), largest), 1000}, extents);
}

TEST_CASE("gradients of a convolution", "[gradients]") {
  for (const ConvShape& shape :
       {conv_valid(2, 6, 5, 3, 4, {3, 2}), conv_same(2, 5, 7, 2, 3, {4, 3}, {2, 3}),
        conv_same(1, 4, 5, 4, 2, {3, 3})}) {
    DYNAMIC_SECTION(to_string(shape)) {
      Random random;
      const auto h_x = random.reals(shape.input_size());
      const auto h_w = random.reals(shape.filter_size());
      const auto h_r = random.reals(shape.output_size());
      DeviceCase device;
      const float* x = device.input(h_x);
      const float* w = device.input(h_w);
      const float* r = device.input(h_r);
      float* dx = device.output<float>(h_x.size());
      float* dw = device.output<float>(h_w.size());
      float* dbias = device.output<float>(size_t(shape.k));
      float* workspace = device.workspace(conv2d_backward_filter_workspace(shape));
      device.run([&](cudaStream_t stream) {
        conv2d_backward_data(dx, r, w, nullptr, shape, stream);
        conv2d_backward_filter(dw, dbias, workspace, x, r, shape, stream);
      });

      Tensor at_x = widen(h_x), at_w = widen(h_w), at_bias(size_t(shape.k), 0.25);
      const auto loss = [&] {
        return dot(widen(h_r), reference::conv2d_forward(at_x, at_w, at_bias, shape).value);
      };
      REQUIRE(gradient_difference(device.result(dx), numeric_gradient(at_x, 1e-2, loss),
                                  {shape.n, shape.h, shape.w, shape.c}) == "");
      REQUIRE(gradient_difference(device.result(dw), numeric_gradient(at_w, 1e-2, loss),
                                  {shape.r, shape.s, shape.c, shape.k}) == "");
      REQUIRE(gradient_difference(device.result(dbias), numeric_gradient(at_bias, 1e-2, loss),
                                  {shape.k}) == "");
    }
  }
}

TEST_CASE("gradients of a convolution and the pooling after it", "[gradients]") {
  for (const ConvShape& shape : {conv_pool(2, 4, 6, 3, 4), conv_pool_same(1, 4, 4, 2, 5),
                                 conv_pool(1, 2, 4, 5, 3, {1, 0}, {0, 2})}) {
    DYNAMIC_SECTION(to_string(shape)) {
      const PoolShape pool = pool_valid(shape.n, shape.p, shape.q, shape.k, {2, 2}, {2, 2});
      constexpr double kStep = 1e-4;
      Random random;
      std::vector<float> h_x, h_w;
      // Draw until no step in a coordinate changes a window's winner: no |w| or |x| is above 1.
      double gap = 0;
      for (int draw = 0; draw < 100 && gap < 3 * kStep; ++draw) {
        h_x = random.reals(shape.input_size());
        h_w = random.reals(shape.filter_size());
        gap = reference::maxpool2d_forward(
                  reference::conv2d_forward(widen(h_x), widen(h_w), {}, shape).value, pool)
                  .gap;
      }
      REQUIRE(gap >= 3 * kStep);
      const auto h_r = random.reals(pool.output_size());
      DeviceCase device;
      const float* x = device.input(h_x);
      const float* w = device.input(h_w);
      const float* r = device.input(h_r);
      float* y = device.output<float>(h_r.size());
      uint8_t* argmax = device.output<uint8_t>(h_r.size());
      float* dx = device.output<float>(h_x.size());
      float* dw = device.output<float>(h_w.size());
      float* dbias = device.output<float>(size_t(shape.k));
      float* workspace = device.workspace(conv2d_pool_backward_filter_workspace(shape));
      device.run([&](cudaStream_t stream) {
        conv2d_pool_forward(y, argmax, x, w, nullptr, false, shape, stream);
        conv2d_pool_backward_data(dx, r, argmax, w, nullptr, shape, stream);
        conv2d_pool_backward_filter(dw, dbias, workspace, x, r, argmax, shape, stream);
      });

      Tensor at_x = widen(h_x), at_w = widen(h_w), at_bias(size_t(shape.k), 0.25);
      const auto loss = [&] {
        const Tensor z = reference::conv2d_forward(at_x, at_w, at_bias, shape).value;
        return dot(widen(h_r), reference::maxpool2d_forward(z, pool).y);
      };
      REQUIRE(gradient_difference(device.result(dx), numeric_gradient(at_x, kStep, loss),
                                  {shape.n, shape.h, shape.w, shape.c}) == "");
      REQUIRE(gradient_difference(device.result(dw), numeric_gradient(at_w, kStep, loss),
                                  {shape.r, shape.s, shape.c, shape.k}) == "");
      REQUIRE(gradient_difference(device.result(dbias), numeric_gradient(at_bias, kStep, loss),
                                  {shape.k}) == "");
    }
  }
}

TEST_CASE("gradients of a dense layer after a ReLU", "[gradients]") {
  const DenseShape shape = {3, 19, 7};
  Random random;
  auto h_z = random.reals(shape.input_size());
  for (float& z : h_z) z += z < 0 ? -0.05f : 0.05f;  // away from the kink
  const auto h_w = random.reals(shape.filter_size());
  const auto h_r = random.reals(shape.output_size());
  std::vector<float> h_x = h_z;
  for (float& value : h_x) value = std::max(value, 0.f);
  DeviceCase device;
  const float* x = device.input(h_x);
  const float* w = device.input(h_w);
  const float* r = device.input(h_r);
  float* dz = device.output<float>(h_z.size());
  float* dw = device.output<float>(h_w.size());
  float* dbias = device.output<float>(size_t(shape.out));
  device.run([&](cudaStream_t stream) {
    dense_backward_data(dz, r, w, x, shape, stream);
    dense_backward_filter(dw, dbias, x, r, shape, stream);
  });

  Tensor at_z = widen(h_z), at_w = widen(h_w), at_bias(size_t(shape.out), 0.25);
  const auto loss = [&] {
    const Tensor at_x = reference::relu({at_z, {}, 1}).value;
    return dot(widen(h_r), reference::dense_forward(at_x, at_w, at_bias, shape).value);
  };
  REQUIRE(gradient_difference(device.result(dz), numeric_gradient(at_z, 1e-2, loss),
                              {shape.n, shape.in}) == "");
  REQUIRE(gradient_difference(device.result(dw), numeric_gradient(at_w, 1e-2, loss),
                              {shape.in, shape.out}) == "");
  REQUIRE(gradient_difference(device.result(dbias), numeric_gradient(at_bias, 1e-2, loss),
                              {shape.out}) == "");
}

TEST_CASE("gradient of max pooling", "[gradients]") {
  for (const PoolShape& shape :
       {pool_valid(2, 6, 5, 3, {2, 2}, {2, 2}), pool_same(1, 5, 6, 2, {3, 3}, {2, 2}),
        pool_valid(1, 5, 5, 4, {3, 2}, {1, 1})}) {
    DYNAMIC_SECTION(to_string(shape)) {
      // Values at least 0.01 apart, in random order: no window comes near a tie.
      Random random;
      std::vector<float> h_x;
      for (size_t i = 0; i < shape.input_size(); ++i) h_x.push_back(0.01f * float(i) - 0.5f);
      for (size_t i = h_x.size(); i > 1; --i)
        std::swap(h_x[i - 1], h_x[size_t(random.integer(0, int(i) - 1))]);
      const auto h_r = random.reals(shape.output_size());
      DeviceCase device;
      const float* x = device.input(h_x);
      const float* r = device.input(h_r);
      float* y = device.output<float>(h_r.size());
      uint8_t* argmax = device.output<uint8_t>(h_r.size());
      float* dx = device.output<float>(h_x.size());
      device.run([&](cudaStream_t stream) {
        maxpool2d_forward(y, argmax, x, shape, stream);
        maxpool2d_backward(dx, r, argmax, nullptr, shape, stream);
      });

      Tensor at_x = widen(h_x);
      const auto loss = [&] {
        return dot(widen(h_r), reference::maxpool2d_forward(at_x, shape).y);
      };
      REQUIRE(gradient_difference(device.result(dx), numeric_gradient(at_x, 1e-3, loss),
                                  {shape.n, shape.h, shape.w, shape.c}) == "");
    }
  }
}

TEST_CASE("gradient of dropout", "[gradients]") {
  const size_t size = 500;
  const float rate = 0.25f;
  Random random;
  const auto h_x = random.reals(size), h_r = random.reals(size);
  DeviceCase device;
  const float* r = device.input(h_r);
  const StepState* state =
      device.input(std::vector<StepState>{{17, 0, 100, 0.001f, 0.9f, 0.999f, 1, 1, 0}});
  float* dx = device.output<float>(size);
  device.run(
      [&](cudaStream_t stream) { dropout(dx, r, nullptr, state, rate, 99, 3, size, stream); });
  Tensor at_x = widen(h_x);
  const auto loss = [&] {
    double sum = 0;
    for (size_t i = 0; i < size; ++i)
      if (reference::dropout_keeps(i, 17, rate, 99, 3))
        sum += double(h_r[i]) * at_x[i] / (1 - double(rate));
    return sum;
  };
  REQUIRE(gradient_difference(device.result(dx), numeric_gradient(at_x, 1e-2, loss),
                              {int64_t(size)}) == "");
}

TEST_CASE("gradient of the cross-entropy", "[gradients]") {
  const int n = 5, classes = 10;
  Random random;
  const auto h_logits = random.reals(size_t(n) * classes, -3, 3);
  const auto h_labels = random.bytes(size_t(n), 0, classes - 1);
  DeviceCase device;
  const float* logits = device.input(h_logits);
  const uint8_t* labels = device.input(h_labels);
  float* dlogits = device.output<float>(h_logits.size());
  MetricSums* metrics = device.in_out(std::vector<MetricSums>(1));
  float* workspace = device.workspace(softmax_xent_workspace(n));
  device.run([&](cudaStream_t stream) {
    softmax_xent(dlogits, metrics, workspace, logits, labels, nullptr, n, classes, stream);
  });
  Tensor at_logits = widen(h_logits);
  const auto mean_loss = [&] {
    return reference::softmax_xent(at_logits, h_labels, n, n, classes).loss.value[0] / n;
  };
  REQUIRE(gradient_difference(device.result(dlogits), numeric_gradient(at_logits, 1e-4, mean_loss),
                              {n, classes}) == "");
}

// ---- a whole net --------------------------------------------------------------------------------
// Convolution, pooling, convolution, pooling, flattening, two dense layers, softmax.
constexpr int kBatch = 3, kClasses = 4;
const ConvShape conv_1 = conv_valid(kBatch, 12, 11, 2, 4, {3, 3});
const PoolShape pool_1 = pool_valid(kBatch, 10, 9, 4, {2, 2}, {2, 2});
const ConvShape conv_2 = conv_same(kBatch, 5, 4, 4, 5, {2, 3});
const PoolShape pool_2 = pool_valid(kBatch, 5, 4, 5, {3, 2}, {2, 1});
const DenseShape dense_1 = {kBatch, 2 * 3 * 5, 7};
const DenseShape dense_2 = {kBatch, 7, kClasses};

struct Parameter {
  const char* name;
  Extents extents;
  std::vector<float> values;
};

// The reference's way through the net. Behind `loss` it keeps on which side of each kink it went
// (the winners of the poolings that pass a gradient, the open ReLUs), and how near the nearest kink
// was.
struct Trace {
  double loss;
  std::vector<int> sides;
  double distance = std::numeric_limits<double>::infinity();
};

Tensor traced_relu(const reference::Sums& sums, Trace& trace) {
  for (double value : sums.value) {
    trace.sides.push_back(value > 0);
    trace.distance = std::min(trace.distance, std::fabs(value));
  }
  return reference::relu(sums).value;
}

// max(relu(z)) = relu(max(z)): before the ReLU no values tie, so winners and gaps are those of z.
Tensor traced_pool(const reference::Sums& sums, const PoolShape& shape, Trace& trace) {
  const reference::Pooled pooled = reference::maxpool2d_forward(sums.value, shape);
  trace.distance = std::min(trace.distance, pooled.gap);
  for (size_t i = 0; i < pooled.y.size(); ++i)
    trace.sides.push_back(pooled.y[i] > 0 ? pooled.argmax[i] : -1);
  return reference::maxpool2d_forward(traced_relu(sums, trace), shape).y;
}

Trace trace_net(const Tensor& x, const std::vector<Tensor>& p, const std::vector<uint8_t>& labels) {
  Trace trace;
  const Tensor p1 = traced_pool(reference::conv2d_forward(x, p[0], p[1], conv_1), pool_1, trace);
  const Tensor p2 = traced_pool(reference::conv2d_forward(p1, p[2], p[3], conv_2), pool_2, trace);
  const Tensor hidden = traced_relu(reference::dense_forward(p2, p[4], p[5], dense_1), trace);
  const Tensor logits = reference::dense_forward(hidden, p[6], p[7], dense_2).value;
  trace.loss =
      reference::softmax_xent(logits, labels, kBatch, kBatch, kClasses).loss.value[0] / kBatch;
  return trace;
}

// The kernels' way: the gradients of the parameters in order, and last that of the input.
std::vector<std::vector<float>> device_gradients(const std::vector<float>& h_x,
                                                 const std::vector<Parameter>& parameters,
                                                 const std::vector<uint8_t>& h_labels) {
  DeviceCase device;
  const auto temporary = [&](size_t size) { return device.output<float>(size); };
  const float* x = device.input(h_x);
  const uint8_t* labels = device.input(h_labels);
  std::vector<const float*> p;
  std::vector<float*> gradient;
  for (const Parameter& parameter : parameters) {
    p.push_back(device.input(parameter.values));
    gradient.push_back(temporary(parameter.values.size()));
  }
  float* dx = temporary(h_x.size());
  gradient.push_back(dx);
  float* a1 = temporary(conv_1.output_size());
  float* da1 = temporary(conv_1.output_size());
  float* p1 = temporary(pool_1.output_size());
  float* dp1 = temporary(pool_1.output_size());
  uint8_t* argmax_1 = device.output<uint8_t>(pool_1.output_size());
  float* a2 = temporary(conv_2.output_size());
  float* da2 = temporary(conv_2.output_size());
  float* p2 = temporary(pool_2.output_size());
  float* dp2 = temporary(pool_2.output_size());
  uint8_t* argmax_2 = device.output<uint8_t>(pool_2.output_size());
  float* hidden = temporary(dense_1.output_size());
  float* dhidden = temporary(dense_1.output_size());
  float* logits = temporary(dense_2.output_size());
  float* dlogits = temporary(dense_2.output_size());
  MetricSums* metrics = device.in_out(std::vector<MetricSums>(1));
  float* workspace = device.workspace(
      std::max({conv2d_backward_filter_workspace(conv_1), conv2d_backward_filter_workspace(conv_2),
                softmax_xent_workspace(kBatch)}));

  device.run([&](cudaStream_t stream) {
    conv2d_forward(a1, x, p[0], p[1], true, conv_1, stream);
    maxpool2d_forward(p1, argmax_1, a1, pool_1, stream);
    conv2d_forward(a2, p1, p[2], p[3], true, conv_2, stream);
    maxpool2d_forward(p2, argmax_2, a2, pool_2, stream);
    dense_forward(hidden, p2, p[4], p[5], true, dense_1, stream);
    dense_forward(logits, hidden, p[6], p[7], false, dense_2, stream);
    softmax_xent(dlogits, metrics, workspace, logits, labels, nullptr, kBatch, kClasses, stream);

    dense_backward_filter(gradient[6], gradient[7], hidden, dlogits, dense_2, stream);
    dense_backward_data(dhidden, dlogits, p[6], hidden, dense_2, stream);
    dense_backward_filter(gradient[4], gradient[5], p2, dhidden, dense_1, stream);
    dense_backward_data(dp2, dhidden, p[4], nullptr, dense_1, stream);
    maxpool2d_backward(da2, dp2, argmax_2, a2, pool_2, stream);
    conv2d_backward_filter(gradient[2], gradient[3], workspace, p1, da2, conv_2, stream);
    conv2d_backward_data(dp1, da2, p[2], p1, conv_2, stream);
    maxpool2d_backward(da1, dp1, argmax_1, nullptr, pool_1, stream);
    conv2d_backward_filter(gradient[0], gradient[1], workspace, x, da1, conv_1, stream);
    conv2d_backward_data(dx, da1, p[0], nullptr, conv_1, stream);
  });
  std::vector<std::vector<float>> results;
  for (float* values : gradient) results.push_back(device.result(values));
  return results;
}

TEST_CASE("gradients of a whole net", "[gradients]") {
  Random random;
  std::vector<Parameter> parameters;
  std::vector<float> h_x;
  std::vector<Tensor> point;
  const std::vector<uint8_t> labels = {2, 0, 3};
  Trace centre;
  // Draw until no kink is near, so that float32 goes the same way as the reference.
  for (int draw = 0; draw < 100; ++draw) {
    parameters = {{"conv_1 kernel", {3, 3, 2, 4}, {}}, {"conv_1 bias", {4}, {}},
                  {"conv_2 kernel", {2, 3, 4, 5}, {}}, {"conv_2 bias", {5}, {}},
                  {"dense_1 kernel", {30, 7}, {}},     {"dense_1 bias", {7}, {}},
                  {"dense_2 kernel", {7, 4}, {}},      {"dense_2 bias", {4}, {}}};
    point.clear();
    for (Parameter& parameter : parameters) {
      size_t size = 1;
      for (int64_t extent : parameter.extents) size *= size_t(extent);
      parameter.values = random.reals(size, -0.5f, 0.5f);
      point.push_back(widen(parameter.values));
    }
    h_x = random.reals(conv_1.input_size());
    centre = trace_net(widen(h_x), point, labels);
    if (centre.distance > 1e-5) break;
  }
  REQUIRE(centre.distance > 1e-5);

  const auto gradients = device_gradients(h_x, parameters, labels);
  point.push_back(widen(h_x));
  parameters.push_back({"input", {kBatch, 12, 11, 2}, h_x});
  for (size_t i = 0; i < parameters.size(); ++i) {
    INFO(parameters[i].name);
    // Where a difference quotient spans a kink, it says nothing: there the kernel's word is taken.
    std::vector<bool> crossed;
    Tensor numeric = numeric_gradient(point[i], 1e-5, [&] {
      const Trace trace = trace_net(point.back(), point, labels);
      crossed.push_back(trace.sides != centre.sides);
      return trace.loss;
    });
    size_t checked = 0;
    for (size_t j = 0; j < numeric.size(); ++j) {
      if (crossed[2 * j] || crossed[2 * j + 1])
        numeric[j] = double(gradients[i][j]);
      else
        ++checked;
    }
    REQUIRE(double(checked) >= 0.95 * double(numeric.size()));
    REQUIRE(gradient_difference(gradients[i], numeric, parameters[i].extents) == "");
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
