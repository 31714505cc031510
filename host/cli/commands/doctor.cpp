// The doctor command: what works on this machine, and what to do about the rest.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hdf5.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/cli/version.h"
#include "host/data/dataset.h"
#include "host/engine/engine.h"

namespace mnist::cli {
namespace {

namespace fs = std::filesystem;

struct Finding {
  bool ok = false;
  std::string detail;  // what is there, or why not and what to do
};

struct Check {
  std::string name;
  Finding finding;
};

// A check that fails in an unforeseen way is a finding too.
Finding guarded(const std::function<Finding()>& check) {
  try {
    return check();
  } catch (const std::exception& error) {
    return {false, error.what()};
  }
}

std::string version(int number) {  // 13000 -> 13.0
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

Finding cuda_build() {
  const std::string architectures = compiled_architectures();
  if (architectures.empty())
    return {false, "not in this build; install the CUDA Toolkit and build again"};
  return {true, fmt::format("toolkit and runtime {}, architectures {}", MNIST_CUDA_TOOLKIT,
                            architectures)};
}

// What --device cuda:N takes.
Finding gpu(const DeviceInfo& device) {
  std::string reason = select_device(Target::kCuda, device.index);
  if (reason.empty()) reason = unusable_reason(Target::kCuda);
  const std::string what = fmt::format(
      "{} ({}), {} SMs, {:.1f} GB, driver for CUDA {}", device.name, device.architecture,
      device.multiprocessors, double(device.total_memory) / 1e9, version(device.driver_version));
  return reason.empty() ? Finding{true, what} : Finding{false, what + ": " + reason};
}

// A row for each GPU, at least one: "gpu", which is cuda:0, "gpu cuda:1", ...
std::vector<Check> gpus() {
  std::vector<DeviceInfo> all;
  const Finding none = guarded([&] {
    all = devices(Target::kCuda);
    return Finding{false, all.empty() ? unusable_reason(Target::kCuda) : ""};
  });
  if (all.empty()) return {{"gpu", none}};
  std::vector<Check> checks;
  for (const DeviceInfo& device : all)
    checks.push_back({device.index == 0 ? "gpu" : fmt::format("gpu cuda:{}", device.index),
                      guarded([&] { return gpu(device); })});
  select_device(Target::kCuda, 0);
  return checks;
}

Finding cudnn() {
  const std::string reason = cudnn_unusable_reason();
  return reason.empty() ? Finding{true, cudnn_versions()} : Finding{false, reason};
}

Finding processor() {
  const std::string reason = unusable_reason(Target::kCpu);
  if (!reason.empty()) return {false, reason};
  const DeviceInfo device = device_info(Target::kCpu);
  return {true, fmt::format("{}, {} threads", device.name, device.multiprocessors)};
}

Finding hdf5() {
  unsigned major = 0, minor = 0, release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) return {false, "the library does not answer"};
  return {true, fmt::format("{}.{}.{}", major, minor, release)};
}

// The directory, or the nearest one above it that exists, must be writable.
Finding writable(fs::path directory) {
  const std::string wanted = directory.string();
  while (!fs::exists(directory) && directory.has_relative_path()) {
    directory = directory.parent_path();
  }
  const bool is_directory = fs::is_directory(directory);
  if (is_directory && access(directory.c_str(), W_OK | X_OK) == 0) return {true, wanted};
  return {false, fmt::format("{}: {}", directory.string(),
                             is_directory ? std::strerror(errno) : "not a directory")};
}

Finding cache(const DatasetRequest& request) {
  Finding finding = writable(download_directory(request));
  if (!finding.ok) finding.detail += "; set CUDA_MNIST_DATA_DIR to a directory of yours";
  return finding;
}

Finding outputs() {
  Finding finding = writable(fs::current_path());
  if (!finding.ok) finding.detail += "; change to another directory, or give --out and --log";
  return finding;
}

Finding data(const DatasetRequest& request) {
  std::set<std::string> from;
  for (const FileCheck& check : verify_dataset(request)) {
    if (!check.ok) return {false, fmt::format("{}: {}", check.file, check.verdict)};
    from.insert(check.from.string());
  }
  return {true, fmt::format("{} verified in {}", request.name, fmt::join(from, " and "))};
}

}  // namespace

ExitCode run_doctor(int argc, char** argv, Results& results) {
  Parser parser("doctor", "What works on this machine, and what to do about the rest.",
                {"cuda-mnist doctor"});
  DataOptions options;
  bool json = false;
  add_data_options(parser, options);
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const DatasetRequest request = options.request();
  const std::vector<Check> gpu_checks = gpus();
  const Check cpu{"cpu target", guarded(processor)};
  std::vector<Check> checks{{"cuda target", guarded(cuda_build)}};
  checks.insert(checks.end(), gpu_checks.begin(), gpu_checks.end());
  checks.insert(checks.end(), {{"cudnn backend", guarded(cudnn)},
                               cpu,
                               {"hdf5", guarded(hdf5)},
                               {"data directory", guarded([&] { return cache(request); })},
                               {"data", guarded([&] { return data(request); })},
                               {"output directory", guarded(outputs)}});
  // What --device auto takes.
  const bool gpu_usable = gpu_checks.front().finding.ok, cpu_usable = cpu.finding.ok;
  const char* verdict = gpu_usable   ? "Training runs on the GPU."
                        : cpu_usable ? "Training runs on the processor."
                                     : "Training cannot run here.";
  if (json) {
    const std::string commit = build_commit();
    Json list = Json::array();
    for (const Check& check : checks) {
      list.push_back(
          {{"name", check.name}, {"ok", check.finding.ok}, {"detail", check.finding.detail}});
    }
    results.json(Json{{"ok", gpu_usable || cpu_usable},
                      {"version", MNIST_VERSION},
                      {"commit", commit.empty() ? Json() : Json(commit)},
                      {"device", gpu_usable ? "cuda" : "cpu"},
                      {"checks", list}});
  } else {
    for (const Check& check : checks) {
      results.text(fmt::format("{:<17} {:<4} {}\n", check.name, check.finding.ok ? "ok" : "no",
                               check.finding.detail));
    }
    results.text(fmt::format("\n{}\n", verdict));
  }
  return gpu_usable || cpu_usable ? ExitCode::kOk : ExitCode::kUnavailable;
}

}  // namespace mnist::cli
