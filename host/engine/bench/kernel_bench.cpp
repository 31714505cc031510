#include "host/engine/bench/operands.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "host/engine/device/device.h"
#include "host/engine/device/stream.h"
#include "host/engine/target_api.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr double kLeastSeconds = 200e-6;  // of a repeat, so that launching it does not count
constexpr int kMostLaunches = 1024;       // in a repeat
constexpr size_t kLeastSets = 2, kMostSets = 64;

// An event that takes the time.
class TimeStamp {
 public:
  TimeStamp() { CUDA_CHECK(cudaEventCreate(&event_)); }
  ~TimeStamp() { cudaEventDestroy(event_); }
  TimeStamp(TimeStamp&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}

  void record(cudaStream_t stream) { CUDA_CHECK(cudaEventRecord(event_, stream)); }
  // Both must have happened.
  double seconds_since(const TimeStamp& begin) const {
    float milliseconds = 0;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin.event_, event_));
    return double(milliseconds) * 1e-3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

#ifdef MNIST_SIMT

DevicePeak device_peak() {
  return {};
}
size_t cache_bytes() {
  return size_t{32} << 20;
}

#else

// Multiply-adds per clock and multiprocessor (CUDA C++ Programming Guide, "Arithmetic
// Instructions").
int fp32_lanes(int major, int minor) {
  switch (major) {
    case 7:
      return 64;
    case 8:
      return minor == 0 ? 64 : 128;
    case 9:
    case 10:
    case 11:
    case 12:
      return 128;
    default:
      return 0;
  }
}

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

DevicePeak device_peak() {
  const int lanes = fp32_lanes(attribute(cudaDevAttrComputeCapabilityMajor),
                               attribute(cudaDevAttrComputeCapabilityMinor));
  const double clock = 1e3 * attribute(cudaDevAttrClockRate);
  const double memory_clock = 1e3 * attribute(cudaDevAttrMemoryClockRate);
  // Two transfers per clock, eight bits to the byte.
  return {.flops = 2.0 * lanes * attribute(cudaDevAttrMultiProcessorCount) * clock,
          .bytes = 2.0 * memory_clock * attribute(cudaDevAttrGlobalMemoryBusWidth) / 8};
}

size_t cache_bytes() {
  return size_t(attribute(cudaDevAttrL2CacheSize));
}

#endif

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

class TargetBench final : public KernelBench {
 public:
  explicit TargetBench(std::vector<TableRow> table)
      : device_(device_info()), peak_(device_peak()), table_(std::move(table)) {
    for (const TableRow& entry : table_) rows_.push_back(entry.row);
  }

  const DeviceInfo& device() const override { return device_; }
  const DevicePeak& peak() const override { return peak_; }
  const std::vector<BenchRow>& rows() const override { return rows_; }
  BenchTimes time(size_t row, int repeats) override;

 private:
  const DeviceInfo device_;
  const DevicePeak peak_;
  const std::vector<TableRow> table_;
  std::vector<BenchRow> rows_;
  Stream stream_;
};

BenchTimes TargetBench::time(size_t row, int repeats) {
  // Twice the cache in sets of buffers: each launch finds its own displaced, unless they are tiny.
  std::vector<Operands> sets;
  std::vector<Launch> launches;
  sets.reserve(kMostSets);
  double bytes = 0;
  while (sets.size() < kLeastSets ||
         (sets.size() < kMostSets && bytes < 2 * double(cache_bytes()))) {
    launches.push_back(table_[row].prepare(sets.emplace_back(unsigned(sets.size()) + 1)));
    bytes += sets.back().bytes();
  }
  CUDA_CHECK(cudaDeviceSynchronize());  // filling them does not wait for the device
  launches.front()(stream_);            // a library's first call must not be recorded

  // Launches of a repeat form one graph, as in training: back to back, without the host.
  BenchTimes times{.bytes = sets.front().bytes(), .launches = 1, .seconds = {}};
  const auto capture = [&](size_t first) {
    return Graph::capture(stream_, [&] {
      for (int i = 0; i < times.launches; ++i)
        launches[(first + size_t(i)) % launches.size()](stream_);
    });
  };
  const auto once = [&](const Graph& graph) {
    TimeStamp begin, end;
    begin.record(stream_);
    graph.launch(stream_);
    end.record(stream_);
    stream_.synchronize();
    return end.seconds_since(begin);
  };
  for (;; times.launches *= 2) {
    const Graph graph = capture(0);
    once(graph);
    if (times.launches >= kMostLaunches || once(graph) >= kLeastSeconds) break;
  }
  std::vector<Graph> graphs;
  for (size_t first = 0; first < launches.size(); first += size_t(times.launches)) {
    graphs.push_back(capture(first));
    once(graphs.back());
  }

  // Queued all at once, so that a GPU never waits for the host.
  std::vector<TimeStamp> begin(static_cast<size_t>(repeats)), end(begin.size());
  for (size_t i = 0; i < begin.size(); ++i) {
    begin[i].record(stream_);
    graphs[i % graphs.size()].launch(stream_);
    end[i].record(stream_);
  }
  stream_.synchronize();
  for (size_t i = 0; i < begin.size(); ++i)
    times.seconds.push_back(end[i].seconds_since(begin[i]) / times.launches);
  return times;
}

std::unique_ptr<KernelBench> make_kernel_bench(bool plain, int threads) {
  use_threads(threads);
  return std::make_unique<TargetBench>(bench_table(plain));
}

std::unique_ptr<KernelBench> make_comparison_bench(bool with_cudnn, int threads) {
  use_threads(threads);
  return std::make_unique<TargetBench>(comparison_table(with_cudnn));
}

}  // namespace mnist::MNIST_TARGET
