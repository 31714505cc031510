#include "host/cli/commands/bench_result.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "host/cli/output.h"
#include "host/error.h"

namespace mnist::cli {

std::vector<BenchJob> chosen_jobs(std::vector<BenchJob> jobs, const std::string& filter) {
  std::set<std::string> names;
  for (const BenchJob& job : jobs) names.insert(job.row.name);
  std::erase_if(jobs, [&](const BenchJob& job) {
    return (job.row.name + " " + job.row.shape).find(filter) == std::string::npos;
  });
  if (jobs.empty())
    throw Error(ExitCode::kUsage,
                fmt::format("bench: --filter: no row contains '{}'. There are: {}.", filter,
                            fmt::join(names, ", ")));
  return jobs;
}

std::vector<BenchRow> rows_of(const std::vector<BenchJob>& jobs) {
  std::vector<BenchRow> rows;
  for (const BenchJob& job : jobs) rows.push_back(job.row);
  return rows;
}

namespace {

// Of sorted numbers.
double median_of(const std::vector<double>& sorted) {
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

}  // namespace

BenchResult measured(const BenchRow& row, BenchTimes times) {
  BenchResult result{.row = row, .times = std::move(times)};
  std::vector<double> sorted = result.times.seconds;
  std::sort(sorted.begin(), sorted.end());
  result.median = median_of(sorted);
  result.least = sorted.front();
  sorted = result.times.cold_seconds;
  if (sorted.empty()) return result;
  std::sort(sorted.begin(), sorted.end());
  result.cold_median = median_of(sorted);
  result.cold_least = sorted.front();
  return result;
}

double floor_share(const BenchResult& result, const DevicePeak& peak) {
  if (!known(peak) || !(result.times.bytes > 0) || !(result.cold_median > 0)) return 0;
  const double flops = result.row.math == Math::kFp16 ? 0 : result.row.flops;
  return std::max(flops / peak.flops, result.times.bytes / peak.bytes) / result.cold_median;
}

std::string bench_heading(const DeviceInfo& device, const DevicePeak& peak,
                          const BenchOptions& options) {
  const char* unit = device.target == Target::kCuda ? "SM" : "thread";
  std::string text =
      fmt::format("{} ({}), {}, {} each\n", device.name, device.architecture,
                  counted(device.multiprocessors, unit), counted(options.repeats, "repeat"));
  if (known(peak))
    text += options.math == Math::kFp16
                ? fmt::format(
                      "Peak from its clocks: {:.0f} GB/s. The floor of a kernel is its bytes over "
                      "that; its\nshare is that of the cold time.\n",
                      peak.bytes * 1e-9)
                : fmt::format(
                      "Peak from its clocks: {:.1f} TFLOP/s in FP32, {:.0f} GB/s. The floor of an "
                      "operation is\nthe larger of its arithmetic and its bytes over those; its "
                      "share is that of the cold time.\n",
                      peak.flops * 1e-12, peak.bytes * 1e-9);
  else
    text += "Its peak is unknown, hence no share of the floor.\n";
  return text +
         "Warm: each launch on the same buffers. Cold: on buffers that others have displaced from "
         "the cache.\n\n";
}

void RowProgress::begin(const BenchRow& row) {
  ++done_;
  if (!shown_) return;
  const std::string text = fmt::format("{}/{} {} {}", done_, rows_, row.name, row.shape);
  line_.draw(text, int(text.size()));
}

}  // namespace mnist::cli
