#include "host/cli/commands/bench_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "host/cli/commands/bench_result.h"
#include "host/cli/progress.h"
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
  double floor = 0;  // share of it that the native time is; 0: unknown

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
  explicit Table(const std::vector<BenchRow>& rows) {
    for (const BenchRow& row : rows) {
      name_ = std::max(name_, row.name.size());
      shape_ = std::max(shape_, row.shape.size());
    }
  }
  std::string head() const {
    return fmt::format("{:<{}}  {:<{}}  {:>11}{:>13}{:>14}{:>10}\n", "name", name_, "shape", shape_,
                       "native us", "cudnn us", "native/cudnn", "of floor");
  }
  std::string line(const Pair& pair) const {
    const auto cell = [](std::optional<double> value, int width, int digits) {
      return value && *value > 0 ? fmt::format("{:{}.{}f}", *value, width, digits)
                                 : fmt::format("{:>{}}", "-", width);
    };
    return fmt::format(
        "{:<{}}  {:<{}}  {:11.1f}{}{}{}\n", pair.native.row.name, name_, pair.native.row.shape,
        shape_, pair.native.median * kMicroseconds, cell(microseconds(pair.rival), 13, 1),
        cell(pair.ratio(), 14, 3),
        pair.floor > 0 ? fmt::format("{:8.1f} %", 100 * pair.floor) : fmt::format("{:>10}", "-"));
  }

 private:
  size_t name_ = 4, shape_ = 5;
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

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[16];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d", &parts)};
}

// Rows of the same name and shape stand one behind the other: native, then the rival.
struct Job {
  BenchRow row;
  std::function<BenchTimes()> native, rival;  // rival: empty if there is none
};

}  // namespace

ExitCode compare_backends(Target target, const CompareOptions& options, Results& results) {
  if (!options.plot.empty()) check_writable(options.plot);
  const std::string alone =
      target == Target::kCpu ? "cuDNN runs on a GPU only" : cudnn_unusable_reason();
  const bool rival = alone.empty();
  if (!rival) message("Nothing to compare with, the native kernels are timed alone: " + alone);

  const auto bench = make_comparison_bench(target, rival, options.threads);
  const auto engine_job = [&](BenchRow row, auto time) {
    const auto on = [&options, target, time](BackendKind backend) {
      return [=, &options] { return time(target, backend, options.repeats, options.threads); };
    };
    return Job{std::move(row), on(BackendKind::kNative),
               rival ? on(BackendKind::kCudnn) : std::function<BenchTimes()>()};
  };
  std::vector<Job> jobs;
  std::vector<BenchRow> all, chosen;
  const std::vector<BenchRow>& rows = bench->rows();
  for (size_t i = 0; i < rows.size(); i += rival ? 2 : 1) {
    const auto time = [&](size_t row) {
      return [&, row] { return bench->time(row, options.repeats); };
    };
    jobs.push_back({rows[i], time(i), rival ? time(i + 1) : std::function<BenchTimes()>()});
  }
  jobs.push_back(engine_job(step_row(), time_step));
  jobs.push_back(engine_job(epoch_row(), time_epoch));
  for (const Job& job : jobs) all.push_back(job.row);
  std::erase_if(jobs, [&](const Job& job) { return !chosen_by(options.filter, job.row); });
  for (const Job& job : jobs) chosen.push_back(job.row);
  if (jobs.empty()) fail_no_row(all, options.filter);

  const DeviceInfo& device = bench->device();
  const DevicePeak& peak = bench->peak();
  const Table table(chosen);
  if (!options.json) {
    std::string text = bench_heading(device, peak, options.repeats);
    if (rival)
      text += fmt::format(
          "native/cudnn is the ratio of the medians: below 1 the native kernels are faster.\n"
          "cudnn: {}.\n\n",
          cudnn_versions());
    results.text(text + table.head());
  }

  ExitCode code = ExitCode::kOk;
  std::vector<Pair> operations, runs;
  StatusLine status;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const BenchRow& row = jobs[i].row;
    if (options.json) {
      const std::string text = fmt::format("{}/{} {} {}", i + 1, jobs.size(), row.name, row.shape);
      status.draw(text, static_cast<int>(text.size()));
    }
    Pair pair{measured(row, jobs[i].native()), {}, 0};
    if (rival) {
      try {
        pair.rival = measured(row, jobs[i].rival());
      } catch (const std::runtime_error& error) {  // a library may lack what an operation needs
        status.end();
        message(fmt::format("cuda-mnist: cudnn, {} {}: {}", row.name, row.shape, error.what()));
        code = ExitCode::kInternal;
      }
    }
    pair.floor = floor_share(pair.native, peak);
    if (!options.json) results.text(table.line(pair));
    const bool run = row.name == step_row().name || row.name == epoch_row().name;
    (run ? runs : operations).push_back(std::move(pair));
  }
  status.end();

  const std::optional<double> mean = geometric_mean(operations);
  if (options.json) {
    Json comparison = Json::array(), step, epoch;
    for (const Pair& pair : operations) comparison.push_back(statistics(pair));
    for (const Pair& pair : runs)
      (pair.native.row.name == step_row().name ? step : epoch) = statistics(pair);
    results.json(Json{{"device", device.name},
                      {"target", target == Target::kCuda ? "cuda" : "cpu"},
                      {"architecture", device.architecture},
                      {"cudnn", rival ? Json(cudnn_versions()) : Json(nullptr)},
                      {"repeats", options.repeats},
                      {"comparison", comparison},
                      {"step", step},
                      {"epoch", epoch},
                      {"geometric_mean", number(mean)}});
  } else if (mean) {
    results.text(
        fmt::format("\nGeometric mean of native/cudnn over the operations: {:.3f}\n", *mean));
  }
  if (options.plot.empty()) return code;

  Plot plot;
  plot.title =
      rival ? "cuda-mnist: its own kernels and NVIDIA's libraries" : "cuda-mnist: its own kernels";
  plot.subtitle = fmt::format("{} ({}), {}{}", device.name, device.architecture, today(),
                              rival ? ", " + cudnn_versions() : "");
  for (const auto* group : {&operations, &runs})
    for (const Pair& pair : *group)
      plot.bars.push_back({pair.native.row.name, pair.native.row.shape,
                           pair.native.median * kMicroseconds, microseconds(pair.rival)});
  const std::string svg = draw_svg(plot);
  write_file_atomically(options.plot, std::as_bytes(std::span(svg)));
  return code;
}

}  // namespace mnist::cli
