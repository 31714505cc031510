// What `bench` and `bench --compare` share: options, rows to time, measured rows, the heading.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "host/cli/output.h"
#include "host/cli/progress.h"
#include "host/engine/bench.h"

namespace mnist::cli {

struct BenchOptions {
  std::string filter;
  bool naive = false;
  bool compare = false;
  bool host = false;
  std::string plot;  // an SVG file to write; empty: none
  Math math = Math::kFp32;
  int repeats = 30, threads = 0;
  bool json = false;
};

// A row to time, on the native backend and, where there is one, on its rival.
struct BenchJob {
  BenchRow row;
  std::function<BenchTimes()> native, rival;  // rival: may be empty
};

// The jobs whose name or shape contains `filter`. Throws Error(kUsage) if there are none.
std::vector<BenchJob> chosen_jobs(std::vector<BenchJob> jobs, const std::string& filter);
std::vector<BenchRow> rows_of(const std::vector<BenchJob>& jobs);

struct BenchResult {
  BenchRow row;
  BenchTimes times;
  double median = 0, least = 0;            // seconds, warm
  double cold_median = 0, cold_least = 0;  // 0: not measured
};

BenchResult measured(const BenchRow& row, BenchTimes times);

inline bool known(const DevicePeak& peak) {
  return peak.flops > 0 && peak.bytes > 0;
}
// The least time that the device could need over the time it took cold; 0 where its peak, or what
// the row moves, is unknown. The peak is that of FP32: in FP16 the bytes alone count.
double floor_share(const BenchResult& result, const DevicePeak& peak);

// Device, number of measurements, and what the floor is.
std::string bench_heading(const DeviceInfo& device, const DevicePeak& peak,
                          const BenchOptions& options);

// Shows on a terminal which row is being timed, where the rows themselves are not shown.
class RowProgress {
 public:
  RowProgress(size_t rows, bool shown) : rows_(rows), shown_(shown) {}
  void begin(const BenchRow& row);
  void end() { line_.end(); }

 private:
  StatusLine line_;
  size_t rows_, done_ = 0;
  bool shown_;
};

}  // namespace mnist::cli
