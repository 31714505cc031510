// What commands do before they compute: choose the device, load the data, load a model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "host/cli/parser.h"
#include "host/data/dataset.h"
#include "host/engine/engine.h"
#include "host/error.h"
#include "host/model_file/model_file.h"

namespace mnist::cli {

// auto: a usable GPU, else the processor and one line on standard error saying why; cuda:N is
// selected for all that this thread computes from now on. Throws
// Error(kUnavailable) if a GPU was asked for by name, or is needed for the backend, and none is
// usable; Error(kUsage) if the backend does not go with the device.
Target choose_target(const DeviceOptions& options);

// load_dataset() with messages and progress on standard error. Signals end it in an orderly way:
// throws Error(kInterrupted or kTerminated).
Dataset load_data(const DatasetRequest& request);
// The same for fetch_dataset().
void fetch_data(const DatasetRequest& request);

// read_model_file() with its warnings on standard error. Call it before the engine exists, since it
// forks.
ModelFile load_model(const std::filesystem::path& path);

// Throws Error(code) unless the model takes 28x28x1 images and has ten classes; `origin` is the
// file or option that it came from.
void check_fits_digits(const Model& model, const std::string& origin, ExitCode code);

// load_model() of a file that must hold such a model.
ModelFile load_digit_model(const std::filesystem::path& path);

// Throws Error(kUsage) if --math is not for the model, batch size and backend.
void check_math(Target target, const Model& model, const EngineConfig& config);

// An engine with the weights of the file, for evaluate() and predict(). Throws Error(kUsage) as
// check_math() does.
std::unique_ptr<Engine> inference_engine(const ModelFile& file, Target target,
                                         const DeviceOptions& options);

}  // namespace mnist::cli
