#include "host/engine/check/check_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include "host/engine/device/device_buffer.h"
#include "host/engine/target_api.h"

#ifdef MNIST_HAVE_CUDNN
#include "host/engine/backends/cudnn/backend.h"
#endif

namespace mnist::MNIST_TARGET {

namespace {

DeviceBuffer<float> upload(const std::vector<float>& values) {
  DeviceBuffer<float> buffer(values.size());
  if (!values.empty())
    CUDA_CHECK(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
  return buffer;
}

// NaN until something is written.
DeviceBuffer<float> result(size_t size) {
  return upload(std::vector<float>(size, std::numeric_limits<float>::quiet_NaN()));
}

std::vector<float> download(const DeviceBuffer<float>& buffer) {
  std::vector<float> values(buffer.size());
  if (!values.empty())
    CUDA_CHECK(cudaMemcpy(values.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToHost));
  return values;
}

std::vector<float> absolute(std::vector<float> values) {
  for (float& value : values) value = std::fabs(value);
  return values;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b,
                          const std::vector<float>& magnitudes) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(double(a[i]) - double(b[i]));
    if (difference == 0) continue;
    const double relative = difference / double(magnitudes[i]);
    if (!std::isfinite(relative)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, relative);
  }
  return largest;
}

// The pooling's windows over the convolution's output y [n,p,q,k] whose largest value is above zero
// and above the second by more than rounding can change.
std::vector<bool> clear_winners(const std::vector<float>& y, const Layer& pool, int n) {
  float scale = 0;
  for (const float value : y) scale = std::max(scale, value);
  const float margin = 1e-4f * scale;
  const Extent &in = pool.input, &out = pool.output;
  std::vector<bool> clear;
  for (int image = 0; image < n; ++image)
    for (int row = 0; row < out.h; ++row)
      for (int column = 0; column < out.w; ++column)
        for (int channel = 0; channel < out.c; ++channel) {
          float first = 0, second = 0;  // of a ReLU's results
          for (int i = 0; i < pool.window_h; ++i)
            for (int j = 0; j < pool.window_w; ++j) {
              const int h = row * pool.stride_h + i, w = column * pool.stride_w + j;
              const float value =
                  y[((size_t(image) * size_t(in.h) + size_t(h)) * size_t(in.w) + size_t(w)) *
                        size_t(in.c) +
                    size_t(channel)];
              second = std::max(second, std::min(value, first));
              first = std::max(first, value);
            }
          clear.push_back(first - second > margin);
        }
  return clear;
}

// Its convolution alone.
Operation first_of(const Operation& pair) {
  Operation first = pair;
  first.model.layers.resize(1);
  return first;
}

// The differences of one case, one for each pass.
struct Differences {
  double forward = 0, filter = 0, data = 0;
};

void compare(Differences& largest, HostOperation& native, HostOperation& other,
             const Operation& operation, const CheckInputs& in, int n) {
  const auto keep = [](double& kept, double value) { kept = std::max(kept, value); };
  const std::vector<float> y = native.forward(in.x, in.weights, n);
  const std::vector<float> other_y = other.forward(in.x, in.weights, n);
  if (operation.is_softmax()) {
    keep(largest.forward, largest_difference(y, other_y, y));
    return;
  }
  for (const bool gate : {false, true}) {
    const auto a = native.backward(in.dy, in.x, y, in.weights, gate, n);
    const auto b = other.backward(in.dy, in.x, other_y, in.weights, gate, n);
    // A gate may change the sums to zero, not their magnitudes.
    const auto magnitudes =
        native.backward(absolute(in.dy), absolute(in.x), y, absolute(in.weights), false, n);
    keep(largest.filter, largest_difference(a.weights, b.weights, magnitudes.weights));
    keep(largest.data, largest_difference(a.x, b.x, magnitudes.x));
  }
  // Last: it makes the native op remember other winners.
  keep(largest.forward,
       largest_difference(y, other_y, native.forward(absolute(in.x), absolute(in.weights), n)));
}

}  // namespace

std::vector<CheckCase> check_cases(int model_batch) {
  std::vector<CheckCase> cases;
  const auto add = [&](const Extent& input, const std::string& layers,
                       const std::vector<int>& batches) {
    const int most = *std::max_element(batches.begin(), batches.end());
    cases.push_back({make_operation(most, input, layers), batches});
  };
  // 128 of 60,000 images leave 96 for the last batch.
  const std::vector<int> model_batches{model_batch, model_batch * 3 / 4, 1}, small{7, 1, 3};
  add({28, 28, 1}, "conv:32x3", model_batches);
  add({13, 13, 32}, "conv:64x3", model_batches);
  add({28, 28, 1}, "conv:32x3,pool:2", model_batches);
  add({13, 13, 32}, "conv:64x3,pool:2", model_batches);
  add({26, 26, 32}, "pool:2", model_batches);
  add({11, 11, 64}, "pool:2", model_batches);
  add({1, 1, 1600}, "dense:128", model_batches);
  add({1, 1, 128}, "dense:10:linear", model_batches);
  add({1, 1, 10}, "softmax", model_batches);

  add({9, 7, 3}, "conv:5x3x2", small);
  add({8, 11, 5}, "conv:7x1:linear", small);
  add({9, 8, 4}, "conv:8x3:same:nobias", small);
  add({7, 6, 3}, "conv:5x2x4:same", small);  // one column more behind than before
  add({10, 9, 3}, "conv:8x3x4:stride2x3", small);
  add({8, 7, 4}, "conv:9x3:same:stride2", small);
  add({15, 16, 1}, "conv:32x5:stride2:linear:nobias", small);
  add({5, 4, 33}, "conv:65x3:same", small);
  add({14, 14, 64}, "conv:64x3:same", {16, 5});
  add({12, 10, 4}, "conv:31x3:same,pool:2", small);
  add({11, 9, 33}, "conv:8x3,pool:2", small);    // the pooling drops rows and columns
  add({12, 13, 3}, "conv:9x5x2,pool:2", small);  // not fused
  add({7, 5, 3}, "pool:2", small);
  add({9, 8, 4}, "pool:3:stride2", small);     // overlapping
  add({9, 10, 7}, "pool:2:stride3x4", small);  // gaps
  add({7, 6, 4}, "pool:3:same:stride2", small);
  add({27, 27, 64}, "pool:3:stride2", {16, 5});
  add({1, 1, 17}, "dense:33", small);
  add({1, 1, 65}, "dense:1:nobias", small);
  add({1, 1, 1024}, "dense:257:linear", {129, 64, 1});
  add({1, 1, 1}, "softmax", small);
  add({1, 1, 101}, "softmax", {129, 1});
  return cases;
}

CheckInputs check_inputs(Backend& native, const Operation& operation, int n) {
  std::mt19937 random{unsigned(n)};
  // Whole numbers below 2^24, so distinct as floats too.
  const auto distinct = [&](size_t size) {
    std::vector<int32_t> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<float> values(size);
    std::transform(order.begin(), order.end(), values.begin(), [&](int32_t place) {
      return float(2 * place + 1 - int64_t(size)) / float(size);
    });
    return values;
  };
  CheckInputs in;
  in.x = distinct(size_t(n) * size_t(operation.model.input.size()));
  if (operation.is_softmax()) {
    for (float& logit : in.x) logit *= 8;
    return in;
  }
  in.weights.assign(operation.model.arena_size, 0);
  for (const Parameter& parameter : operation.model.parameters) {
    const std::vector<float> values = distinct(parameter.size);
    std::copy(values.begin(), values.end(), in.weights.begin() + std::ptrdiff_t(parameter.offset));
  }
  in.dy = distinct(size_t(n) * size_t(operation.output().size()));
  if (operation.is_pair()) {
    const std::vector<float> y =
        HostOperation(native, first_of(operation)).forward(in.x, in.weights, n);
    const std::vector<bool> clear = clear_winners(y, operation.model.layers.back(), n);
    for (size_t i = 0; i < in.dy.size(); ++i)
      if (!clear[i]) in.dy[i] = 0;
  } else if (operation.model.layers.back().activation == Activation::kRelu) {
    const std::vector<float> y = HostOperation(native, operation).forward(in.x, in.weights, n);
    for (size_t i = 0; i < in.dy.size(); ++i)
      if (!(y[i] > 0)) in.dy[i] = 0;
  }
  return in;
}

std::vector<float> HostOperation::forward(const std::vector<float>& x,
                                          const std::vector<float>& weights, int n) {
  const DeviceBuffer<float> in = upload(x), arena = upload(weights);
  const DeviceBuffer<float> out = result(size_t(n) * size_t(operation_.output().size()));
  CUDA_CHECK(cudaDeviceSynchronize());  // uploads do not wait for the device
  on_device_.load_weights(arena.data(), stream_);
  on_device_.forward(out.data(), in.data(), arena.data(), n, stream_);
  stream_.synchronize();
  return download(out);
}

HostOperation::Gradients HostOperation::backward(const std::vector<float>& dy,
                                                 const std::vector<float>& x,
                                                 const std::vector<float>& y,
                                                 const std::vector<float>& weights, bool gate,
                                                 int n) {
  const DeviceBuffer<float> from = upload(dy), in = upload(x), out = upload(y),
                            arena = upload(weights);
  const DeviceBuffer<float> by_weights = result(weights.size()), by_x = result(x.size());
  CUDA_CHECK(cudaDeviceSynchronize());
  on_device_.load_weights(arena.data(), stream_);
  const float* first = on_device_.back_to_first(from.data(), out.data(), arena.data(), n, stream_);
  if (operation_.has_parameters()) {
    on_device_.backward_filter(by_weights.data(), first, in.data(), n, stream_);
    on_device_.store_gradients(by_weights.data(), stream_);
  }
  on_device_.backward_data(by_x.data(), first, in.data(), out.data(), arena.data(), gate, n,
                           stream_);
  stream_.synchronize();
  const std::vector<float> stored = download(by_weights);
  Gradients gradients{std::vector<float>(stored.size(), 0.0f), download(by_x)};
  for (const Parameter& p : operation_.model.parameters)
    std::copy_n(stored.begin() + std::ptrdiff_t(p.offset), p.size,
                gradients.weights.begin() + std::ptrdiff_t(p.offset));
  return gradients;
}

std::vector<OperationDifference> compare_backends(Backend& native, Backend& other,
                                                  const std::vector<CheckCase>& cases) {
  std::vector<OperationDifference> differences;
  for (const auto& [operation, batches] : cases) {
    HostOperation mine(native, operation);
    Differences largest;
    try {
      HostOperation theirs(other, operation);
      for (const int n : batches)
        compare(largest, mine, theirs, operation, check_inputs(native, operation, n), n);
    } catch (const std::runtime_error& error) {  // a library may lack what an operation needs
      differences.push_back(
          {operation.name, operation.shape, std::numeric_limits<double>::infinity(), error.what()});
      continue;
    }
    const auto add = [&, &operation = operation](const char* pass, double difference) {
      differences.push_back({operation.name + pass, operation.shape, difference, ""});
    };
    if (operation.is_softmax()) {
      add("", largest.forward);
      continue;
    }
    add("_forward", largest.forward);
    if (operation.has_parameters()) {
      add("_backward_filter", largest.filter);
      add("_backward_data", largest.data);
    } else {
      add("_backward", largest.data);
    }
  }
  return differences;
}

#ifdef MNIST_HAVE_CUDNN
std::vector<OperationDifference> check_backends() {
  const std::unique_ptr<Backend> native = make_native_backend(), cudnn = make_cudnn_backend();
  return compare_backends(*native, *cudnn, check_cases(128));
}
#endif

}  // namespace mnist::MNIST_TARGET
