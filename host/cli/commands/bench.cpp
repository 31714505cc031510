// The bench command: how fast every kernel is, and the training step.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "host/cli/commands/bench_compare.h"
#include "host/cli/commands/bench_host.h"
#include "host/cli/commands/bench_result.h"
#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/cli/tables.h"
#include "host/engine/bench.h"

namespace mnist::cli {
namespace {

Json statistics(const BenchResult& result) {
  Json json{{"name", result.row.name},
            {"shape", result.row.shape},
            {"backend", result.row.backend},
            {"median_us", result.median * 1e6},
            {"min_us", result.least * 1e6}};
  if (result.cold_median > 0) {
    json["cache"] = "warm";
    json["cold_median_us"] = result.cold_median * 1e6;
    json["cold_min_us"] = result.cold_least * 1e6;
  }
  if (result.row.flops > 0) json["gflops"] = result.row.flops / result.median * 1e-9;
  if (result.times.bytes > 0) json["gb_per_s"] = result.times.bytes / result.median * 1e-9;
  json["repeats"] = result.times.seconds.size();
  json["launches"] = result.times.launches;
  return json;
}

// The table is written row by row, as the times come in.
class Table {
 public:
  Table(const std::vector<BenchRow>& rows, const DevicePeak& peak) : labels_(rows), peak_(peak) {}
  std::string head() const {
    return labels_.head() + "backend    warm us     min us    cold us  GFLOP/s     GB/s" +
           (known(peak_) ? "  of floor\n" : "\n");
  }
  std::string line(const BenchResult& r) const {
    const auto rate = [&](double amount) {
      return amount > 0 ? fmt::format("{:9.1f}", amount / r.median * 1e-9)
                        : fmt::format("{:>9}", "-");
    };
    std::string text =
        labels_.of(r.row) +
        fmt::format("{:<7}{:11.1f}{:11.1f}{}{}{}", r.row.backend, r.median * 1e6, r.least * 1e6,
                    r.cold_median > 0 ? fmt::format("{:11.1f}", r.cold_median * 1e6)
                                      : fmt::format("{:>11}", "-"),
                    rate(r.row.flops), rate(r.times.bytes));
    if (known(peak_) && r.times.bytes > 0)
      text += fmt::format("{:8.1f} %", 100 * floor_share(r, peak_));
    return text + "\n";
  }

 private:
  const RowLabels labels_;
  const DevicePeak peak_;
};

// Every kernel, then the training step.
std::vector<BenchJob> all_jobs(KernelBench& bench, Target target, const BenchOptions& options) {
  std::vector<BenchJob> jobs;
  for (size_t i = 0; i < bench.rows().size(); ++i)
    jobs.push_back({bench.rows()[i], [&, i] { return bench.time(i, options.repeats); }, {}});
  jobs.push_back({step_row(BackendKind::kNative, options.math),
                  [&, target] {
                    return time_step(target, BackendKind::kNative, options.math, options.repeats,
                                     options.threads);
                  },
                  {}});
  return jobs;
}

double images_per_second(const BenchResult& step) {
  return kStepBatch / step.median;
}

Json result_json(const DeviceInfo& device, const DevicePeak& peak, Math math, const Json& kernels,
                 const Json& step) {
  Json json = device_json(device);
  if (math != Math::kFp32) json["math"] = name_of(math);
  json["multiprocessors"] = device.multiprocessors;
  if (known(peak)) {
    json["peak_gflops"] = peak.flops * 1e-9;
    json["peak_gb_per_s"] = peak.bytes * 1e-9;
  }
  json["kernels"] = kernels;
  json["step"] = step;
  return json;
}

void time_kernels(Target target, const BenchOptions& options, Results& results) {
  const auto bench = make_kernel_bench(target, options.naive, options.threads, options.math);
  const std::vector<BenchJob> jobs = chosen_jobs(all_jobs(*bench, target, options), options.filter);
  const DevicePeak peak = bench->peak();
  const Table table(rows_of(jobs), peak);
  if (!options.json) results.text(bench_heading(bench->device(), peak, options) + table.head());

  Json kernels = Json::array(), step;
  RowProgress progress(jobs.size(), options.json);
  for (const BenchJob& job : jobs) {
    progress.begin(job.row);
    const BenchResult result = measured(job.row, job.native());
    if (!options.json) results.text(table.line(result));
    Json entry = statistics(result);
    if (job.row.name == step_row().name) {
      entry["images_per_second"] = images_per_second(result);
      step = entry;
      if (!options.json)
        results.text(fmt::format("\nTraining: {:.1f} us a step, {:.0f} images/s\n",
                                 result.median * 1e6, images_per_second(result)));
    } else {
      if (known(peak)) entry["floor_share"] = floor_share(result, peak);
      kernels.push_back(entry);
    }
  }
  progress.end();
  if (options.json) results.json(result_json(bench->device(), peak, options.math, kernels, step));
}

}  // namespace

ExitCode run_bench(int argc, char** argv, Results& results) {
  Parser parser("bench", "Times every kernel on its own, then the whole training step.",
                {"cuda-mnist bench", "cuda-mnist bench --filter conv2d --naive",
                 "cuda-mnist bench --filter step --repeat 100 --json",
                 "cuda-mnist bench --math fp16", "cuda-mnist bench --compare --plot bench.svg"});
  DeviceOptions device;
  BenchOptions options;
  parser.add_option("--filter", options.filter, "Only rows whose name or shape contains TEXT")
      ->type_name("TEXT");
  parser.add("--repeat", options.repeats, whole_number(1, 1'000'000), "Measurements per row");
  CLI::Option* naive = parser.add_flag("--naive,--plain", options.naive,
                                       "The naive kernels too, straight from the definition");
  CLI::Option* host = parser.add_flag("--host", options.host,
                                      "What training costs the host alone, device and all others "
                                      "left out");
  host->excludes(naive);
  CLI::Option* compare = parser.add_flag("--compare", options.compare,
                                         "Each operation, a step and an epoch beside cuDNN's");
  compare->excludes(naive)->excludes(host);
  parser.add_option("--plot", options.plot, "With --compare: draws the times as bars (SVG)")
      ->type_name("FILE")
      ->needs(compare);
  add_device_options(parser, device);
  add_math_option(parser, device);
  add_threads_option(parser, options.threads);
  add_json_flag(parser, options.json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  options.math = device.math;
  if (options.naive && options.math == Math::kFp16)
    throw Error(ExitCode::kUsage, "bench: --naive: there are no naive kernels for --math fp16");

  if (options.host) {
    host_timings(options, results);
    return ExitCode::kOk;
  }
  const Target target = choose_target(device);
  if (options.compare) return compare_timings(target, options, results);
  time_kernels(target, options, results);
  return ExitCode::kOk;
}

}  // namespace mnist::cli
