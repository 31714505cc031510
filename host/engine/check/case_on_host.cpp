#include "host/engine/check/case_on_host.h"

#include <algorithm>
#include <limits>

#include "host/engine/device/device_buffer.h"

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

}  // namespace

std::vector<float> CaseOnHost::forward(const std::vector<float>& x,
                                       const std::vector<float>& weights, int n) {
  const DeviceBuffer<float> in = upload(x), arena = upload(weights);
  const DeviceBuffer<float> out = result(size_t(n) * size_t(case_.output().size()));
  CUDA_CHECK(cudaDeviceSynchronize());  // uploads do not wait for the device
  const Pass pass{arena.data(), nullptr, n, stream_};
  on_device_.load_weights(pass);
  on_device_.forward(out.data(), in.data(), pass);
  stream_.synchronize();
  return download(out);
}

CaseOnHost::Gradients CaseOnHost::backward(const std::vector<float>& dy,
                                           const std::vector<float>& x, const std::vector<float>& y,
                                           const std::vector<float>& weights, bool gate, int n) {
  const DeviceBuffer<float> from = upload(dy), in = upload(x), out = upload(y),
                            arena = upload(weights);
  const DeviceBuffer<float> by_weights = result(weights.size()), by_x = result(x.size());
  CUDA_CHECK(cudaDeviceSynchronize());
  const Pass pass{arena.data(), nullptr, n, stream_};
  on_device_.load_weights(pass);
  const float* first = on_device_.back_to_first(from.data(), out.data(), pass);
  if (case_.has_parameters()) {
    on_device_.backward_filter(by_weights.data(), first, in.data(), pass);
    on_device_.store_gradients(by_weights.data(), pass);
  }
  on_device_.backward_data(by_x.data(), first, in.data(), out.data(), gate, pass);
  stream_.synchronize();
  const std::vector<float> stored = download(by_weights);
  Gradients gradients{std::vector<float>(stored.size(), 0.0f), download(by_x)};
  for (const Parameter& p : case_.model.parameters)
    std::copy_n(stored.begin() + std::ptrdiff_t(p.offset), p.size,
                gradients.weights.begin() + std::ptrdiff_t(p.offset));
  return gradients;
}

}  // namespace mnist::MNIST_TARGET
