// The check-backends command: whether cuDNN and cuBLAS compute what this program's kernels do.
#include "host/engine/check.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/cli/parser.h"
#include "host/engine/engine.h"

namespace mnist::cli {

ExitCode run_check_backends(int argc, char** argv, Results& results) {
  Parser parser("check-backends",
                "Runs every operation on both backends, with the same inputs, and compares. Needs "
                "a GPU.\n\nThe difference of two values is divided by their magnitude: the sum of "
                "the absolute\nvalues of the products that they are sums of.",
                {"cuda-mnist check-backends", "cuda-mnist check-backends --json"});
  bool json = false;
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const std::vector<OperationDifference> differences = check_backends();
  const auto failed = std::count_if(differences.begin(), differences.end(),
                                    [](const auto& difference) { return !agrees(difference); });
  const DeviceInfo device = device_info(Target::kCuda);
  if (json) {
    Json operations = Json::array();
    for (const OperationDifference& d : differences) {  // an infinite one becomes null
      operations.push_back({{"name", d.name},
                            {"shape", d.shape},
                            {"largest_difference", d.largest},
                            {"pass", agrees(d)}});
      if (!d.error.empty()) operations.back()["error"] = d.error;
    }
    results.json(Json{{"device", device.name},
                      {"architecture", device.architecture},
                      {"cudnn", cudnn_versions()},
                      {"tolerance", kBackendTolerance},
                      {"operations", operations},
                      {"ok", failed == 0}});
  } else {
    size_t name = 4, shape = 5;
    for (const OperationDifference& d : differences) {
      name = std::max(name, d.name.size());
      shape = std::max(shape, d.shape.size());
    }
    std::string text = fmt::format(
        "{} ({}), {}\nLargest difference between the backends over the magnitude of the sum; "
        "at most {:g} passes.\n\n{:<{}}  {:<{}}  difference\n",
        device.name, device.architecture, cudnn_versions(), kBackendTolerance, "name", name,
        "shape", shape);
    for (const OperationDifference& d : differences)
      text += fmt::format("{:<{}}  {:<{}}  {:10.2e}  {}\n", d.name, name, d.shape, shape, d.largest,
                          agrees(d) ? "PASS" : "FAIL", d.error.empty() ? "" : ": " + d.error);
    results.text(text);
  }
  if (failed == 0) return ExitCode::kOk;
  message(
      fmt::format("cuda-mnist: check-backends: {} of {} differ by more than {:g}; please report "
                  "this with the table",
                  failed, counted(int64_t(differences.size()), "operation"), kBackendTolerance));
  return ExitCode::kInternal;
}

}  // namespace mnist::cli
