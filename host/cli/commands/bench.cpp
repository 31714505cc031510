// The bench command: how fast every kernel is, and the training step.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "host/cli/commands/bench_compare.h"
#include "host/cli/commands/bench_result.h"
#include "host/cli/parser.h"
#include "host/cli/progress.h"
#include "host/cli/setup.h"
#include "host/engine/bench.h"

namespace mnist::cli {
namespace {

constexpr int kStepBatch = 128;

Json statistics(const BenchResult& result) {
  Json json{{"name", result.row.name},
            {"shape", result.row.shape},
            {"backend", result.row.backend},
            {"median_us", result.median * 1e6},
            {"min_us", result.least * 1e6}};
  if (result.row.flops > 0) json["gflops"] = result.row.flops / result.median * 1e-9;
  if (result.times.bytes > 0) json["gb_per_s"] = result.times.bytes / result.median * 1e-9;
  json["repeats"] = result.times.seconds.size();
  json["launches"] = result.times.launches;
  return json;
}

// The table is written row by row, as the times come in.
class Table {
 public:
  Table(const std::vector<BenchRow>& rows, const DevicePeak& peak) : peak_(peak) {
    for (const BenchRow& row : rows) {
      name_ = std::max(name_, row.name.size());
      shape_ = std::max(shape_, row.shape.size());
    }
  }
  std::string head() const {
    return fmt::format("{:<{}}  {:<{}}  backend  median us     min us  GFLOP/s     GB/s{}\n",
                       "name", name_, "shape", shape_, known(peak_) ? "  of floor" : "");
  }
  std::string line(const BenchResult& r) const {
    const auto rate = [&](double amount) {
      return amount > 0 ? fmt::format("{:9.1f}", amount / r.median * 1e-9)
                        : fmt::format("{:>9}", "-");
    };
    std::string text = fmt::format("{:<{}}  {:<{}}  {:<7}{:11.1f}{:11.1f}{}{}", r.row.name, name_,
                                   r.row.shape, shape_, r.row.backend, r.median * 1e6,
                                   r.least * 1e6, rate(r.row.flops), rate(r.times.bytes));
    if (known(peak_) && r.times.bytes > 0)
      text += fmt::format("{:8.1f} %", 100 * floor_share(r, peak_));
    return text + "\n";
  }

 private:
  const DevicePeak peak_;
  size_t name_ = 4, shape_ = 5;
};

}  // namespace

ExitCode run_bench(int argc, char** argv, Results& results) {
  Parser parser("bench", "Times every kernel on its own, then the whole training step.",
                {"cuda-mnist bench", "cuda-mnist bench --filter conv2d --naive",
                 "cuda-mnist bench --filter step --repeat 100 --json",
                 "cuda-mnist bench --compare --plot bench.svg"});
  DeviceOptions device;
  CompareOptions options;
  bool naive = false, compare = false;
  parser.add_option("--filter", options.filter, "Only rows whose name or shape contains TEXT")
      ->type_name("TEXT");
  add_integer(parser, "--repeat", options.repeats, 1, 1'000'000, "Measurements per row");
  CLI::Option* naive_flag = parser.add_flag("--naive,--plain", naive,
                                            "The naive kernels too, straight from the definition");
  CLI::Option* compare_flag =
      parser.add_flag("--compare", compare, "Each operation, a step and an epoch beside cuDNN's");
  compare_flag->excludes(naive_flag);
  parser.add_option("--plot", options.plot, "With --compare: draws the times as bars (SVG)")
      ->type_name("FILE")
      ->needs(compare_flag);
  add_device_options(parser, device);
  add_integer(parser, "--threads", options.threads, 0, 1024, "Of the cpu target; 0: one per core");
  add_json_flag(parser, options.json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const Target target = choose_target(device);
  if (compare) return compare_backends(target, options, results);
  const int repeats = options.repeats, threads = options.threads;
  const bool json = options.json;
  const auto bench = make_kernel_bench(target, naive, threads);
  const std::vector<BenchRow>& rows = bench->rows();
  const auto wanted = [&](const BenchRow& row) { return chosen_by(options.filter, row); };
  std::vector<BenchRow> chosen;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(chosen), wanted);
  const bool with_step = wanted(step_row());
  if (with_step) chosen.push_back(step_row());
  if (chosen.empty()) {
    chosen = rows;
    chosen.push_back(step_row());
    fail_no_row(chosen, options.filter);
  }

  const DevicePeak peak = bench->peak();
  const Table table(chosen, peak);
  StatusLine status;
  size_t done = 0;
  const auto begin_row = [&](const BenchRow& row) {
    const std::string text = fmt::format("{}/{} {} {}", ++done, chosen.size(), row.name, row.shape);
    if (json) status.draw(text, static_cast<int>(text.size()));
  };
  if (!json) results.text(bench_heading(bench->device(), peak, repeats) + table.head());

  Json kernels = Json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!wanted(rows[i])) continue;
    begin_row(rows[i]);
    const BenchResult result = measured(rows[i], bench->time(i, repeats));
    Json entry = statistics(result);
    if (known(peak)) entry["floor_share"] = floor_share(result, peak);
    kernels.push_back(std::move(entry));
    if (!json) results.text(table.line(result));
  }
  Json step;
  if (with_step) {
    begin_row(step_row());
    const BenchResult result =
        measured(step_row(), time_step(target, BackendKind::kNative, repeats, threads));
    step = statistics(result);
    step["images_per_second"] = kStepBatch / result.median;
    if (!json)
      results.text(table.line(result) +
                   fmt::format("\nTraining: {:.1f} us a step, {:.0f} images/s\n",
                               result.median * 1e6, kStepBatch / result.median));
  }
  status.end();
  if (json) {
    const DeviceInfo& info = bench->device();
    Json object{{"device", info.name},
                {"target", target == Target::kCuda ? "cuda" : "cpu"},
                {"architecture", info.architecture},
                {"multiprocessors", info.multiprocessors}};
    if (known(peak))
      object.update(Json{{"peak_gflops", peak.flops * 1e-9}, {"peak_gb_per_s", peak.bytes * 1e-9}});
    object.update(Json{{"kernels", kernels}, {"step", step}});
    results.json(object);
  }
  return ExitCode::kOk;
}

}  // namespace mnist::cli
