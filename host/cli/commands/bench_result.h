// What the benchmark's tables share: a measured row, and the heading.
#pragma once

#include <string>

#include "host/engine/bench.h"

namespace mnist::cli {

struct BenchResult {
  BenchRow row;
  BenchTimes times;
  double median = 0, least = 0;  // seconds
};

BenchResult measured(const BenchRow& row, BenchTimes times);

inline bool known(const DevicePeak& peak) {
  return peak.flops > 0 && peak.bytes > 0;
}
// The least time that the device could need over the time it took; 0 where its peak, or what the
// row moves, is unknown.
double floor_share(const BenchResult& result, const DevicePeak& peak);

// Device, number of measurements, and what the floor is.
std::string bench_heading(const DeviceInfo& device, const DevicePeak& peak, int repeats);

// Exits with kUsage: `--filter` chose none of `rows`.
[[noreturn]] void fail_no_row(const std::vector<BenchRow>& rows, const std::string& filter);
inline bool chosen_by(const std::string& filter, const BenchRow& row) {
  return (row.name + " " + row.shape).find(filter) != std::string::npos;
}

}  // namespace mnist::cli
