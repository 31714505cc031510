// The check-backends command: whether cuDNN and cuBLAS compute what this program's kernels do.
#include <fmt/format.h>

#include <algorithm>

#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/tables.h"
#include "host/engine/check.h"
#include "host/engine/engine.h"

namespace mnist::cli {

ExitCode run_check_backends(int argc, char** argv, Results& results) {
  Parser parser("check-backends",
                "Runs every operation on both backends, with the same inputs, and compares. Needs "
                "a GPU.\n\nThe difference of two values is divided by their magnitude: the sum of "
                "the absolute\nvalues of the products that they are sums of.",
                {"cuda-mnist check-backends", "cuda-mnist check-backends --math fp16 --json"});
  Math math = Math::kFp32;
  parser.add("--math", math, one_of(kMath),
             "Arithmetic of the libraries; the kernels here compute in fp32");
  bool json = false;
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const std::vector<OperationDifference> differences = check_backends(math);
  const double tolerance = backend_tolerance(math);
  const auto failed = std::count_if(differences.begin(), differences.end(),
                                    [&](const auto& d) { return !agrees(d, math); });
  const DeviceInfo device = device_info(Target::kCuda);
  if (json) {
    Json operations = Json::array();
    for (const OperationDifference& d : differences) {  // an infinite one becomes null
      operations.push_back({{"name", d.name},
                            {"shape", d.shape},
                            {"largest_difference", d.largest},
                            {"pass", agrees(d, math)}});
      if (!d.error.empty()) operations.back()["error"] = d.error;
    }
    Json result = device_json(device);
    result["cudnn"] = cudnn_versions();
    result["math"] = name_of(math);
    result["tolerance"] = tolerance;
    result["operations"] = operations;
    result["ok"] = failed == 0;
    results.json(result);
  } else {
    const RowLabels labels(differences);
    std::string text = fmt::format(
        "{} ({}), {}, {}\nLargest difference between the backends over the magnitude of the sum; "
        "at most {:g} passes.\n\n",
        device.name, device.architecture, cudnn_versions(), name_of(math), tolerance);
    text += labels.head() + "difference\n";
    for (const OperationDifference& d : differences)
      text += labels.of(d) + fmt::format("{:10.2e}  {}{}\n", d.largest,
                                         agrees(d, math) ? "PASS" : "FAIL",
                                         d.error.empty() ? "" : ": " + d.error);
    results.text(text);
  }
  if (failed == 0) return ExitCode::kOk;
  message(
      fmt::format("cuda-mnist: check-backends: {} of {} differ by more than {:g}; please report "
                  "this with the table",
                  failed, counted(int64_t(differences.size()), "operation"), tolerance));
  return ExitCode::kInternal;
}

}  // namespace mnist::cli
