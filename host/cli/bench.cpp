// The bench command: how fast every kernel is, and the training step.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "host/bench.h"
#include "host/cli/options.h"
#include "host/cli/progress.h"
#include "host/cli/session.h"

namespace mnist::cli {
namespace {

constexpr int kStepBatch = 128;

struct Result {
  BenchRow row;
  BenchTimes times;
  double median = 0, least = 0;  // seconds
};

Result measured(const BenchRow& row, BenchTimes times) {
  std::vector<double> sorted = times.seconds;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  const double median =
      sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return {row, std::move(times), median, sorted.front()};
}

// The least time that the device could need over the time it took; 0 where its peak is unknown.
double floor_share(const Result& result, const DevicePeak& peak) {
  if (peak.flops <= 0 || peak.bytes <= 0) return 0;
  return std::max(result.row.flops / peak.flops, result.times.bytes / peak.bytes) / result.median;
}

Json statistics(const Result& result) {
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
                       "name", name_, "shape", shape_, peak_known() ? "  of floor" : "");
  }
  std::string line(const Result& r) const {
    const auto rate = [&](double amount) {
      return amount > 0 ? fmt::format("{:9.1f}", amount / r.median * 1e-9)
                        : fmt::format("{:>9}", "-");
    };
    std::string text = fmt::format("{:<{}}  {:<{}}  {:<7}{:11.1f}{:11.1f}{}{}", r.row.name, name_,
                                   r.row.shape, shape_, r.row.backend, r.median * 1e6,
                                   r.least * 1e6, rate(r.row.flops), rate(r.times.bytes));
    if (peak_known() && r.times.bytes > 0)
      text += fmt::format("{:8.1f} %", 100 * floor_share(r, peak_));
    return text + "\n";
  }

 private:
  bool peak_known() const { return peak_.flops > 0 && peak_.bytes > 0; }

  const DevicePeak peak_;
  size_t name_ = 4, shape_ = 5;
};

std::string heading(const DeviceInfo& device, const DevicePeak& peak, int repeats) {
  const char* unit = device.target == Target::kCuda ? "SM" : "thread";
  std::string text = fmt::format("{} ({}), {}, {} each\n", device.name, device.architecture,
                                 counted(device.multiprocessors, unit), counted(repeats, "repeat"));
  if (peak.flops > 0 && peak.bytes > 0)
    text += fmt::format(
        "Peak from its clocks: {:.1f} TFLOP/s in FP32, {:.0f} GB/s. The floor of an operation is\n"
        "the larger of its arithmetic and its bytes over those.\n",
        peak.flops * 1e-12, peak.bytes * 1e-9);
  else
    text += "Its peak is unknown, hence no share of the floor.\n";
  return text + "\n";
}

}  // namespace

ExitCode run_bench(int argc, char** argv, Results& results) {
  Parser parser("bench", "Times every kernel on its own, then the whole training step.",
                {"cuda-mnist bench", "cuda-mnist bench --filter conv2d --plain",
                 "cuda-mnist bench --filter step --repeat 100 --json"});
  DeviceOptions device;
  std::string filter;
  int repeats = 30, threads = 0;
  bool plain = false, json = false;
  parser.add_option("--filter", filter, "Only rows whose name or shape contains TEXT")
      ->type_name("TEXT");
  add_integer(parser, "--repeat", repeats, 1, 1'000'000, "Measurements per row");
  parser.add_flag("--plain", plain, "The plainest kernels too, beside the tuned ones");
  add_device_options(parser, device);
  add_integer(parser, "--threads", threads, 0, 1024, "Of the cpu target; 0: one per core");
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const Target target = choose_target(device);
  const auto bench = make_kernel_bench(target, plain, threads);
  const std::vector<BenchRow>& rows = bench->rows();
  const auto wanted = [&](const BenchRow& row) {
    return fmt::format("{} {}", row.name, row.shape).find(filter) != std::string::npos;
  };
  std::vector<BenchRow> chosen;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(chosen), wanted);
  const bool with_step = wanted(step_row());
  if (with_step) chosen.push_back(step_row());
  if (chosen.empty()) {
    std::vector<std::string> names;
    for (const BenchRow& row : rows) names.push_back(row.name);
    names.push_back(step_row().name);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    throw Error(ExitCode::kUsage,
                fmt::format("bench: --filter: no row contains '{}'. There are: {}.", filter,
                            fmt::join(names, ", ")));
  }

  const DevicePeak peak = bench->peak();
  const Table table(chosen, peak);
  StatusLine status;
  size_t done = 0;
  const auto begin_row = [&](const BenchRow& row) {
    const std::string text = fmt::format("{}/{} {} {}", ++done, chosen.size(), row.name, row.shape);
    if (json) status.draw(text, static_cast<int>(text.size()));
  };
  if (!json) results.text(heading(bench->device(), peak, repeats) + table.head());

  Json kernels = Json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!wanted(rows[i])) continue;
    begin_row(rows[i]);
    const Result result = measured(rows[i], bench->time(i, repeats));
    Json entry = statistics(result);
    if (peak.flops > 0 && peak.bytes > 0) entry["floor_share"] = floor_share(result, peak);
    kernels.push_back(std::move(entry));
    if (!json) results.text(table.line(result));
  }
  Json step;
  if (with_step) {
    begin_row(step_row());
    const Result result = measured(step_row(), time_step(target, repeats, threads));
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
    if (peak.flops > 0 && peak.bytes > 0)
      object.update(Json{{"peak_gflops", peak.flops * 1e-9}, {"peak_gb_per_s", peak.bytes * 1e-9}});
    object.update(Json{{"kernels", kernels}, {"step", step}});
    results.json(object);
  }
  return ExitCode::kOk;
}

}  // namespace mnist::cli
