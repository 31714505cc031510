#include "host/engine/bench/operands.h"

#include <algorithm>
#include <numeric>

namespace mnist::MNIST_TARGET {

namespace {

// Enough numbers that no two operands begin alike; drawing each anew would take longer than timing.
const std::vector<float>& normal_numbers() {
  static const std::vector<float> numbers = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> drawn(size_t{1} << 20);
    for (float& x : drawn) x = normal(random);
    return drawn;
  }();
  return numbers;
}

}  // namespace

void* Operands::allocate(const void* values, size_t bytes) {
  const DeviceBuffer<std::byte>& buffer = buffers_.emplace_back(bytes);
  if (values != nullptr)
    CUDA_CHECK(cudaMemcpy(buffer.data(), values, bytes, cudaMemcpyHostToDevice));
  else
    CUDA_CHECK(cudaMemset(buffer.data(), 0, bytes));
  return buffer.data();
}

template <typename T, typename Generate>
T* Operands::fill(size_t size, Generate&& generate) {
  std::vector<T> values(size);
  std::generate(values.begin(), values.end(), generate);
  bytes_ += double(size * sizeof(T));
  return static_cast<T*>(allocate(values.data(), size * sizeof(T)));
}

template <typename Map>
float* Operands::normals(size_t size, Map&& map) {
  const std::vector<float>& numbers = normal_numbers();
  size_t next = random_() % numbers.size();
  return fill<float>(size, [&] {
    next = (next + 1) % numbers.size();
    return map(numbers[next]);
  });
}

const float* Operands::normal(size_t size) {
  return normals(size, [](float x) { return x; });
}

const float* Operands::relu(size_t size) {
  return normals(size, [](float x) { return std::max(x, 0.0f); });
}

const float* Operands::gradient(size_t size, double density) {
  const auto limit = float(density) * float(std::minstd_rand::max());
  return normals(size, [&](float x) { return float(random_()) < limit ? x : 0.0f; });
}

const uint8_t* Operands::codes(size_t size, int limit) {
  return fill<uint8_t>(size, [&] { return uint8_t(random_() % unsigned(limit)); });
}

const int32_t* Operands::permutation(int size) {
  std::vector<int32_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  return static_cast<int32_t*>(allocate(order.data(), order.size() * sizeof(int32_t)));
}

float* Operands::output(size_t size) {
  bytes_ += double(size * sizeof(float));
  return static_cast<float*>(allocate(nullptr, size * sizeof(float)));
}

uint8_t* Operands::output_codes(size_t size) {
  bytes_ += double(size);
  return static_cast<uint8_t*>(allocate(nullptr, size));
}

float* Operands::updated(size_t size) {
  bytes_ += double(size * sizeof(float));
  return normals(size, [](float x) { return x * x; });
}

float* Operands::scratch(size_t size) {
  return size == 0 ? nullptr : static_cast<float*>(allocate(nullptr, size * sizeof(float)));
}

}  // namespace mnist::MNIST_TARGET
