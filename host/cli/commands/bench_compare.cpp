#include "host/cli/commands/bench_compare.h"

#include <fmt/format.h>

#include <cmath>
#include <ctime>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "host/cli/commands/bench_result.h"
#include "host/cli/tables.h"
#include "host/engine/bench.h"
#include "host/os/atomic_file.h"
#include "host/report/bench_plot.h"

namespace mnist::cli {
namespace {

constexpr double kMicroseconds = 1e6;

// One operation or run on the native backend and, if there is one, on its rival.
struct Pair {
  BenchResult native;
  std::optional<BenchResult> rival;
  double floor = 0;  // floor_share() of the native time

  std::optional<double> ratio() const {
    if (!rival) return {};
    return native.median / rival->median;
  }
};

Json number(std::optional<double> value) {
  return value && *value > 0 ? Json(*value) : Json(nullptr);
}

std::optional<double> microseconds(const std::optional<BenchResult>& result) {
  if (!result) return {};
  return result->median * kMicroseconds;
}

Json statistics(const Pair& pair) {
  return Json{{"name", pair.native.row.name},
              {"shape", pair.native.row.shape},
              {"native_us", pair.native.median * kMicroseconds},
              {"cudnn_us", number(microseconds(pair.rival))},
              {"ratio", number(pair.ratio())},
              {"floor_share", number(pair.floor)}};
}

class Table {
 public:
  Table(const std::vector<BenchRow>& rows, Math math) : labels_(rows), math_(math) {}
  std::string head() const {
    const bool fused = math_ == Math::kFp16;
    return labels_.head() + fmt::format("{:>11}{:>13}{:>14}{:>10}\n",
                                        fused ? "fused us" : "native us",
                                        fused ? "their sum us" : "cudnn us",
                                        fused ? "fused/sum" : "native/cudnn", "of floor");
  }
  std::string line(const Pair& pair) const {
    const auto cell = [](std::optional<double> value, int width, int digits) {
      return value && *value > 0 ? fmt::format("{:{}.{}f}", *value, width, digits)
                                 : fmt::format("{:>{}}", "-", width);
    };
    const std::string share =
        pair.floor > 0 ? fmt::format("{:8.1f} %", 100 * pair.floor) : fmt::format("{:>10}", "-");
    return labels_.of(pair.native.row) +
           fmt::format("{:11.1f}{}{}{}\n", pair.native.median * kMicroseconds,
                       cell(microseconds(pair.rival), 13, 1), cell(pair.ratio(), 14, 3), share);
  }

 private:
  const RowLabels labels_;
  const Math math_;
};

std::optional<double> geometric_mean(const std::vector<Pair>& pairs) {
  double sum = 0;
  int count = 0;
  for (const Pair& pair : pairs) {
    if (!pair.rival) continue;
    sum += std::log(*pair.ratio());
    ++count;
  }
  if (count == 0) return {};
  return std::exp(sum / count);
}

// The operations, then a step and an epoch.
std::vector<BenchJob> all_jobs(KernelBench& bench, Target target, bool rival,
                               const BenchOptions& options) {
  const std::function<BenchTimes()> none;
  std::vector<BenchJob> jobs;
  const std::vector<BenchRow>& rows = bench.rows();
  const auto time_row = [&](size_t row) {
    return [&, row] { return bench.time(row, options.repeats); };
  };
  // With a rival its rows follow the native ones: the same name and shape twice.
  for (size_t i = 0; i < rows.size(); i += rival ? 2 : 1)
    jobs.push_back({rows[i], time_row(i), rival ? time_row(i + 1) : none});

  const auto engine_job = [&](const BenchRow& row, auto time) {
    const auto on = [&options, target, time](BackendKind backend) {
      return [=, &options] {
        return time(target, backend, options.math, options.repeats, options.threads);
      };
    };
    return BenchJob{row, on(BackendKind::kNative), rival ? on(BackendKind::kCudnn) : none};
  };
  jobs.push_back(engine_job(step_row(BackendKind::kNative, options.math), time_step));
  jobs.push_back(engine_job(epoch_row(BackendKind::kNative, options.math), time_epoch));
  return jobs;
}

bool is_run(const BenchRow& row) {
  return row.name == step_row().name || row.name == epoch_row().name;
}

struct Comparison {
  std::vector<Pair> operations, runs;  // runs: step, epoch
  bool complete = true;                // false: the rival could not run every row
};

Pair time_pair(const BenchJob& job, const DevicePeak& peak, RowProgress& progress) {
  progress.begin(job.row);
  Pair pair{measured(job.row, job.native()), {}, 0};
  pair.floor = floor_share(pair.native, peak);
  if (!job.rival) return pair;
  try {
    pair.rival = measured(job.row, job.rival());
  } catch (const std::runtime_error& error) {  // a library may lack what an operation needs
    progress.end();
    message(fmt::format("cuda-mnist: cudnn, {} {}: {}", job.row.name, job.row.shape, error.what()));
  }
  return pair;
}

// Times the jobs one after the other; the table is written as the times come in.
Comparison run(const std::vector<BenchJob>& jobs, const DevicePeak& peak, const Table& table,
               bool json, Results& results) {
  Comparison comparison;
  RowProgress progress(jobs.size(), json);
  for (const BenchJob& job : jobs) {
    Pair pair = time_pair(job, peak, progress);
    if (job.rival && !pair.rival) comparison.complete = false;
    if (!json) results.text(table.line(pair));
    (is_run(job.row) ? comparison.runs : comparison.operations).push_back(std::move(pair));
  }
  progress.end();
  return comparison;
}

Json result_json(const DeviceInfo& device, const Comparison& comparison, bool rival,
                 const BenchOptions& options) {
  Json operations = Json::array(), step, epoch;
  for (const Pair& pair : comparison.operations) operations.push_back(statistics(pair));
  for (const Pair& pair : comparison.runs)
    (pair.native.row.name == step_row().name ? step : epoch) = statistics(pair);
  Json json = device_json(device);
  json["cudnn"] = rival ? Json(cudnn_versions()) : Json(nullptr);
  if (options.math != Math::kFp32) json["math"] = name_of(options.math);
  json["repeats"] = options.repeats;
  json["comparison"] = operations;
  json["step"] = step;
  json["epoch"] = epoch;
  json["geometric_mean"] = number(geometric_mean(comparison.operations));
  return json;
}

std::string comparison_heading(Math math) {
  if (math == Math::kFp32)
    return fmt::format(
        "native/cudnn is the ratio of the medians: below 1 the native kernels are faster.\n"
        "cudnn: {}.\n\n",
        cudnn_versions());
  return fmt::format(
      "Their sum: what a fused kernel replaces, one operation after the other, by {} in FP16.\n"
      "fused/sum is the ratio of the medians: below 1 the fused kernel is faster.\n\n",
      cudnn_versions());
}

void write_plot(const std::string& path, const DeviceInfo& device, const Comparison& comparison,
                bool rival) {
  Plot plot;
  plot.title =
      rival ? "cuda-mnist: its own kernels and NVIDIA's libraries" : "cuda-mnist: its own kernels";
  plot.subtitle =
      fmt::format("{} ({}), {}{}", device.name, device.architecture,
                  utc_text(std::time(nullptr), "%Y-%m-%d"), rival ? ", " + cudnn_versions() : "");
  for (const auto* group : {&comparison.operations, &comparison.runs})
    for (const Pair& pair : *group)
      plot.bars.push_back({pair.native.row.name, pair.native.row.shape,
                           pair.native.median * kMicroseconds, microseconds(pair.rival)});
  const std::string svg = svg_file(bench_chart(plot));
  write_file_atomically(path, std::as_bytes(std::span(svg)));
}

}  // namespace

ExitCode compare_timings(Target target, const BenchOptions& options, Results& results) {
  if (!options.plot.empty()) check_writable(options.plot);
  const std::string alone =
      target == Target::kCpu ? "cuDNN runs on a GPU only" : cudnn_unusable_reason();
  const bool rival = alone.empty();
  if (!rival) message("Nothing to compare with, the native kernels are timed alone: " + alone);

  const auto bench = make_comparison_bench(target, rival, options.threads, options.math);
  const std::vector<BenchJob> jobs =
      chosen_jobs(all_jobs(*bench, target, rival, options), options.filter);
  const DeviceInfo& device = bench->device();
  const Table table(rows_of(jobs), options.math);
  if (!options.json) {
    std::string text = bench_heading(device, bench->peak(), options);
    if (rival) text += comparison_heading(options.math);
    results.text(text + table.head());
  }

  const Comparison comparison = run(jobs, bench->peak(), table, options.json, results);
  if (options.json)
    results.json(result_json(device, comparison, rival, options));
  else if (const auto mean = geometric_mean(comparison.operations))
    results.text(fmt::format("\nGeometric mean of {} over the operations: {:.3f}\n",
                             options.math == Math::kFp16 ? "fused/sum" : "native/cudnn", *mean));
  if (!options.plot.empty()) write_plot(options.plot, device, comparison, rival);
  return comparison.complete ? ExitCode::kOk : ExitCode::kInternal;
}

}  // namespace mnist::cli
