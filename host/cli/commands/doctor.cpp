// The doctor command: what works on this machine, and what to do about the rest.
#include <fmt/format.h>
#include <hdf5.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "host/cli/parser.h"
#include "host/cli/setup.h"
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

std::string version(int number) {  // 13000 -> 13.0
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

Finding cuda_build() {
  const std::string architectures = compiled_architectures();
  if (architectures.empty()) {
    return {false, "not in this build; install the CUDA Toolkit and build again"};
  }
  return {true, fmt::format("toolkit and runtime {}, architectures {}", MNIST_CUDA_TOOLKIT,
                            architectures)};
}

Finding gpu() {
  const std::string reason = unusable_reason(Target::kCuda);
  if (!reason.empty()) return {false, reason};
  const DeviceInfo device = device_info(Target::kCuda);
  return {true, fmt::format("{} ({}), {} SMs, {:.1f} GB, driver for CUDA {}", device.name,
                            device.architecture, device.multiprocessors,
                            static_cast<double>(device.total_memory) / 1e9,
                            version(device.driver_version))};
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
  Finding finding = writable(data_directory(request));
  if (!finding.ok) finding.detail += "; set CUDA_MNIST_DATA_DIR to a directory of yours";
  return finding;
}

Finding outputs() {
  Finding finding = writable(fs::current_path());
  if (!finding.ok) finding.detail += "; change to another directory, or give --out and --log";
  return finding;
}

Finding data(const DatasetRequest& request) {
  for (const FileCheck& check : verify_dataset(request)) {
    if (!check.ok) return {false, fmt::format("{}: {}", check.file, check.verdict)};
  }
  return {true, fmt::format("{} verified in {}", request.name, data_directory(request).string())};
}

// A check that fails in an unforeseen way is a finding too.
Finding guarded(const std::function<Finding()>& check) {
  try {
    return check();
  } catch (const std::exception& error) {
    return {false, error.what()};
  }
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
  const std::vector<Check> checks = {
      {"cuda target", guarded(cuda_build)},
      {"gpu", guarded(gpu)},
      {"cudnn backend", guarded(cudnn)},
      {"cpu target", guarded(processor)},
      {"hdf5", guarded(hdf5)},
      {"data directory", guarded([&] { return cache(request); })},
      {"data", guarded([&] { return data(request); })},
      {"output directory", guarded(outputs)},
  };
  const bool gpu_usable = checks[1].finding.ok, cpu_usable = checks[3].finding.ok;
  const char* verdict = gpu_usable   ? "Training runs on the GPU."
                        : cpu_usable ? "Training runs on the processor."
                                     : "Training cannot run here.";
  if (json) {
    Json list = Json::array();
    for (const Check& check : checks) {
      list.push_back(
          {{"name", check.name}, {"ok", check.finding.ok}, {"detail", check.finding.detail}});
    }
    results.json(Json{{"ok", gpu_usable || cpu_usable},
                      {"version", MNIST_VERSION},
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
