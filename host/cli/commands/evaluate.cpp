// The evaluate command: how good a model is on the test set.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/setup.h"

namespace mnist::cli {
namespace {

constexpr int kClasses = kMnistClasses;
using Confusion = std::array<std::array<int64_t, kClasses>, kClasses>;  // [truth][prediction]

struct ClassScore {
  double precision = 0, recall = 0, f1 = 0;  // 0 where undefined
  int64_t support = 0;
};

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

Confusion confusion_matrix(Engine& engine, const ImageSet& set, int64_t count) {
  Confusion confusion{};
  const int64_t pixels = int64_t{set.height} * set.width;
  // In parts, so that the buffers stay small however large the set.
  constexpr int64_t kPart = 2000;
  for (int64_t first = 0; first < count; first += kPart) {
    const int64_t part = std::min(kPart, count - first);
    const std::vector<float> probabilities =
        engine.predict(set.images.data() + first * pixels, part);
    for (int64_t i = 0; i < part; ++i) {
      const auto row = probabilities.begin() + i * kClasses;
      ++confusion[set.labels[first + i]][std::max_element(row, row + kClasses) - row];
    }
  }
  return confusion;
}

std::array<ClassScore, kClasses> class_scores(const Confusion& confusion) {
  std::array<ClassScore, kClasses> scores;
  for (int c = 0; c < kClasses; ++c) {
    int64_t predicted = 0;
    for (int i = 0; i < kClasses; ++i) {
      predicted += confusion[i][c];
      scores[c].support += confusion[c][i];
    }
    const auto hits = double(confusion[c][c]);
    scores[c].precision = ratio(hits, double(predicted));
    scores[c].recall = ratio(hits, double(scores[c].support));
    scores[c].f1 =
        ratio(2 * scores[c].precision * scores[c].recall, scores[c].precision + scores[c].recall);
  }
  return scores;
}

std::string table(const Confusion& confusion, const std::array<ClassScore, kClasses>& scores) {
  std::string text = "\nConfusion (rows: truth, columns: prediction)\n     ";
  for (int c = 0; c < kClasses; ++c) text += fmt::format("{:>6}", c);
  for (int c = 0; c < kClasses; ++c) {
    text += fmt::format("\n{:>5}", c);
    for (const int64_t count : confusion[c]) text += fmt::format("{:>6}", count);
  }
  text += "\n\nclass  precision   recall       f1  support\n";
  for (int c = 0; c < kClasses; ++c) {
    text += fmt::format("{:>5}{:>11.4f}{:>9.4f}{:>9.4f}{:>9}\n", c, scores[c].precision,
                        scores[c].recall, scores[c].f1, scores[c].support);
  }
  return text;
}

}  // namespace

ExitCode run_evaluate(int argc, char** argv, Results& results) {
  Parser parser("evaluate", "Loss, accuracy, confusion matrix and scores per class.",
                {"cuda-mnist evaluate", "cuda-mnist evaluate --model run1.h5 --json"});
  std::string path = "mnist.h5";
  DataOptions data_options;
  DeviceOptions device;
  int64_t limit = 0;
  bool json = false;
  parser.add_option("--model", path, "Model file")->type_name("FILE.h5")->capture_default_str();
  add_data_options(parser, data_options);
  add_device_options(parser, device);
  add_backend_option(parser, device);
  parser
      .add("--limit", limit, whole_number<int64_t>(1, 1'000'000'000),
           "Only the first N test images")
      ->default_str("all");
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const ModelFile file = load_model(path);
  check_fits_digits(file.model, path, ExitCode::kBadInput);
  const Target target = choose_target(device);
  DatasetRequest request = data_options.request();
  request.limit = 1;  // no training image is needed
  const Dataset data = load_data(request);
  const int64_t count = limit > 0 ? std::min(limit, data.test.count) : data.test.count;

  const std::unique_ptr<Engine> engine = inference_engine(file, target, device.backend);
  engine->set_validation_set(data.test.first_samples(count));
  const Metrics metrics = engine->evaluate();
  const auto loss = double(float(metrics.loss()));
  if (!std::isfinite(loss))
    throw Error(ExitCode::kInternal,
                fmt::format("the loss of {} on {} test images of {} is infinite or NaN: with its "
                            "weights the network overflows. Train it again with a smaller "
                            "--learning-rate.",
                            path, grouped(metrics.samples), data.name));
  const Confusion confusion = confusion_matrix(*engine, data.test, count);
  const auto scores = class_scores(confusion);
  const auto accuracy = double(float(metrics.accuracy()));

  if (json) {
    Json per_class = Json::array();
    for (int c = 0; c < kClasses; ++c)
      per_class.push_back({{"class", c},
                           {"precision", scores[c].precision},
                           {"recall", scores[c].recall},
                           {"f1", scores[c].f1},
                           {"support", scores[c].support}});
    results.json(Json{{"loss", loss},
                      {"accuracy", accuracy},
                      {"samples", metrics.samples},
                      {"confusion", confusion},
                      {"per_class", per_class},
                      {"model", path},
                      {"dataset", data.name}});
  } else {
    results.text(fmt::format("{} on {} test images of {}: accuracy: {:.4f} - loss: {:.4f}\n", path,
                             grouped(metrics.samples), data.name, accuracy, loss) +
                 table(confusion, scores));
  }
  return ExitCode::kOk;
}

}  // namespace mnist::cli
