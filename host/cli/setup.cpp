#include "host/cli/setup.h"

#include <fmt/format.h>

#include "host/cli/progress.h"
#include "host/cli/signals.h"

namespace mnist::cli {
namespace {

DownloadProgress download_progress() {
  return [bar = DownloadBar()](const std::string& file, int64_t done, int64_t total) mutable {
    bar.update(file, done, total);
    return StopSignals::received() == 0;
  };
}

// Runs `load`; a signal during it becomes an Error that says which.
template <typename Load>
auto interruptible(const Load& load) {
  const StopSignals signals;
  try {
    return load();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInterrupted)
      StopSignals::throw_if_received("the download was given up");
    throw;
  }
}

}  // namespace

Target choose_target(const DeviceOptions& options) {
  const bool cudnn = options.backend == BackendKind::kCudnn;
  if (options.device.kind == DeviceChoice::Kind::kCpu) {
    if (cudnn) throw Error(ExitCode::kUsage, "--backend cudnn needs a GPU, --device cpu has none");
    return Target::kCpu;
  }
  std::string reason;
  if (options.device.gpu) reason = select_device(Target::kCuda, *options.device.gpu);
  if (reason.empty()) reason = unusable_reason(Target::kCuda);
  if (cudnn && reason.empty()) reason = cudnn_unusable_reason();
  if (cudnn && !reason.empty()) throw Error(ExitCode::kUnavailable, "--backend cudnn: " + reason);
  if (reason.empty()) return Target::kCuda;
  if (options.device.kind == DeviceChoice::Kind::kCuda)
    throw Error(ExitCode::kUnavailable,
                fmt::format("--device {}: {}", options.device.text(), reason));
  message("Computing on the processor: " + reason);
  return Target::kCpu;
}

Dataset load_data(const DatasetRequest& request) {
  Dataset data = interruptible([&] { return load_dataset(request, message, download_progress()); });
  for (const ImageSet* set : {&data.train, &data.test})
    if (set->height != kMnistSide || set->width != kMnistSide)
      throw Error(ExitCode::kBadInput, fmt::format("{}: the images are {}x{}; 28x28 is needed",
                                                   data.source, set->height, set->width));
  return data;
}

void fetch_data(const DatasetRequest& request) {
  interruptible([&] { fetch_dataset(request, message, download_progress()); });
}

ModelFile load_model(const std::filesystem::path& path) {
  ModelFile file = read_model_file(path);
  for (const std::string& warning : file.warnings) message(path.string() + ": " + warning);
  return file;
}

void check_fits_digits(const Model& model, const std::string& origin, ExitCode code) {
  if (model.input != kMnistExtent)
    throw Error(code, fmt::format("{}: the model takes {}x{}x{} images, the data are 28x28x1",
                                  origin, model.input.h, model.input.w, model.input.c));
  if (model.classes() != kMnistClasses)
    throw Error(code,
                fmt::format("{}: the last layer '{}' has {} units, the data {} classes", origin,
                            model.layers.back().name, model.classes(), kMnistClasses));
}

ModelFile load_digit_model(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    throw Error(ExitCode::kMissingInput,
                path.string() +
                    ": there is no such file; --model names another, and 'cuda-mnist "
                    "train' makes mnist.h5");
  ModelFile file = load_model(path);
  check_fits_digits(file.model, path, ExitCode::kBadInput);
  return file;
}

void check_math(Target target, const Model& model, const EngineConfig& config) {
  const std::string reason = math_unusable_reason(target, model, config);
  if (!reason.empty())
    throw Error(ExitCode::kUsage, fmt::format("--math {}: {}", name_of(config.math), reason));
}

std::unique_ptr<Engine> inference_engine(const ModelFile& file, Target target,
                                         const DeviceOptions& options) {
  const EngineConfig config{.backend = options.backend, .math = options.math};
  check_math(target, file.model, config);
  std::unique_ptr<Engine> engine = make_engine(target, file.model, config);
  const std::vector<float> zeros(file.model.arena_size);
  engine->load({.weights = file.weights, .m = zeros, .v = zeros, .iteration = 0});
  return engine;
}

}  // namespace mnist::cli
