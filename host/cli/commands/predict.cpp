// The predict command: which digit an image shows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/data/pictures/image.h"

namespace mnist::cli {

ExitCode run_predict(int argc, char** argv, Results& results) {
  Parser parser("predict", "Recognise the digit in image files (PNG, JPEG, PGM).",
                {"cuda-mnist predict seven.png", "cuda-mnist predict --json scans/*.png"});
  std::string model = "mnist.h5";
  std::vector<std::string> images;
  DeviceOptions device;
  bool json = false;
  parser.add_option("IMAGE", images, "Image files")
      ->required()
      ->type_name("")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  parser.add_option("--model", model, "Model file")->type_name("FILE.h5")->capture_default_str();
  add_device_options(parser, device);
  add_backend_option(parser, device);
  add_json_flag(parser, json, "A JSON list with one object per image");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const ModelFile file = load_model(model);
  check_fits_digits(file.model, model, ExitCode::kBadInput);

  std::vector<std::string> readable;
  std::vector<uint8_t> pixels;  // [readable,28,28]
  ExitCode worst = ExitCode::kOk;
  for (const std::string& name : images) {
    try {
      const auto digit = to_mnist(read_image(name));
      pixels.insert(pixels.end(), digit.begin(), digit.end());
      readable.push_back(name);
    } catch (const Error& error) {  // the other images are still worth doing
      message(fmt::format("cuda-mnist: {}", error.what()));
      worst = std::max(worst, error.code());
    }
  }
  std::vector<float> probabilities;  // [readable,10]
  if (!readable.empty()) {
    const std::unique_ptr<Engine> engine =
        inference_engine(file, choose_target(device), device.backend);
    probabilities = engine->predict(pixels.data(), int64_t(readable.size()));
  }

  Json list = Json::array();
  for (size_t i = 0; i < readable.size(); ++i) {
    const std::span<const float> row =
        std::span(probabilities).subspan(i * kMnistClasses, kMnistClasses);
    if (!std::all_of(row.begin(), row.end(), [](float p) { return std::isfinite(p); })) {
      message(
          fmt::format("cuda-mnist: {}: the probabilities are NaN: with the weights of {} the "
                      "network overflows. Train it again with a smaller --learning-rate.",
                      readable[i], model));
      worst = std::max(worst, ExitCode::kInternal);
      continue;
    }
    const auto digit = std::max_element(row.begin(), row.end()) - row.begin();
    if (json) {
      list.push_back({{"file", readable[i]}, {"digit", digit}, {"probabilities", row}});
      continue;
    }
    std::string line = fmt::format("{}: {} ({:.2f} %) ", readable[i], digit, 100.0 * row[digit]);
    for (int c = 0; c < kMnistClasses; ++c) line += fmt::format(" {}:{:.4f}", c, row[c]);
    results.text(line + "\n");
  }
  if (json) results.json(list);
  return worst;
}

}  // namespace mnist::cli
