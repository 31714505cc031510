#include "host/engine/bench/kernel_bench.h"

#include <span>
#include <utility>
#include <vector>

#include "host/engine/bench/device_peak.h"
#include "host/engine/bench/tables.h"
#include "host/engine/device/device.h"
#include "host/engine/device/stream.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr double kLeastSeconds = 200e-6;  // of a repeat, so that launching it does not count
constexpr int kMostLaunches = 1024;       // in a repeat
constexpr size_t kLeastSets = 2, kMostSets = 64;

// A timing event.
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

}  // namespace

class TargetBench final : public KernelBench {
 public:
  explicit TargetBench(std::vector<TableRow> table)
      : device_(use_device()), peak_(device_peak()), table_(std::move(table)) {
    for (const TableRow& entry : table_) rows_.push_back(entry.row);
  }

  const DeviceInfo& device() const override { return device_; }
  const DevicePeak& peak() const override { return peak_; }
  const std::vector<BenchRow>& rows() const override { return rows_; }
  BenchTimes time(size_t row, int repeats) override;

 private:
  // A graph of `count` launches, those of `launches` by turns from number `first` on.
  Graph capture(std::span<const Launch> launches, size_t first, int count);
  double time_once(const Graph& graph);
  // Of each repeat, over its `count` launches.
  std::vector<double> seconds(std::span<const Launch> launches, int count, int repeats);

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

  BenchTimes times{.bytes = sets.front().bytes(), .launches = 1, .seconds = {}, .cold_seconds = {}};
  const std::span all(launches);
  for (;; times.launches *= 2) {
    const Graph graph = capture(all, 0, times.launches);
    time_once(graph);
    if (times.launches >= kMostLaunches || time_once(graph) >= kLeastSeconds) break;
  }
  times.seconds = seconds(all.first(1), times.launches, repeats);
  times.cold_seconds = seconds(all, times.launches, repeats);
  return times;
}

// Launches of a repeat form one graph, as in training: back to back, without the host.
Graph TargetBench::capture(std::span<const Launch> launches, size_t first, int count) {
  return Graph::capture(stream_, [&] {
    for (int i = 0; i < count; ++i) launches[(first + size_t(i)) % launches.size()](stream_);
  });
}

double TargetBench::time_once(const Graph& graph) {
  TimeStamp begin, end;
  begin.record(stream_);
  graph.launch(stream_);
  end.record(stream_);
  stream_.synchronize();
  return end.seconds_since(begin);
}

std::vector<double> TargetBench::seconds(std::span<const Launch> launches, int count, int repeats) {
  std::vector<Graph> graphs;
  for (size_t first = 0; first < launches.size(); first += size_t(count)) {
    graphs.push_back(capture(launches, first, count));
    time_once(graphs.back());
  }
  // Queued all at once, so that a GPU never waits for the host.
  std::vector<TimeStamp> begin(static_cast<size_t>(repeats)), end(begin.size());
  for (size_t i = 0; i < begin.size(); ++i) {
    begin[i].record(stream_);
    graphs[i % graphs.size()].launch(stream_);
    end[i].record(stream_);
  }
  stream_.synchronize();
  std::vector<double> result;
  for (size_t i = 0; i < begin.size(); ++i)
    result.push_back(end[i].seconds_since(begin[i]) / count);
  return result;
}

std::unique_ptr<KernelBench> make_kernel_bench(bool naive, int threads, Math math) {
  use_threads(threads);
  return std::make_unique<TargetBench>(math == Math::kFp16 ? fused_table() : native_table(naive));
}

std::unique_ptr<KernelBench> make_comparison_bench(bool with_cudnn, int threads, Math math) {
  use_threads(threads);
  return std::make_unique<TargetBench>(math == Math::kFp16 ? fused_comparison_table(with_cudnn)
                                                           : comparison_table(with_cudnn));
}

}  // namespace mnist::MNIST_TARGET
