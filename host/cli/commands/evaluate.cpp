// The evaluate command: how good a model is on the test set.
#include <fmt/format.h>

#include <array>
#include <string>

#include "host/cli/commands/commands.h"
#include "host/cli/commands/test_model.h"
#include "host/cli/parser.h"
#include "host/report/evaluation.h"

namespace mnist::cli {
namespace {

constexpr size_t kClasses = kMnistClasses;

std::string table(const Confusion& confusion, const std::array<ClassScore, kClasses>& scores) {
  std::string text = "\nConfusion (rows: truth, columns: prediction)\n     ";
  for (size_t c = 0; c < kClasses; ++c) text += fmt::format("{:>6}", c);
  for (size_t c = 0; c < kClasses; ++c) {
    text += fmt::format("\n{:>5}", c);
    for (const int64_t count : confusion[c]) text += fmt::format("{:>6}", count);
  }
  text += "\n\nclass  precision   recall       f1  support\n";
  for (size_t c = 0; c < kClasses; ++c) {
    text += fmt::format("{:>5}{:>11.4f}{:>9.4f}{:>9.4f}{:>9}\n", c, scores[c].precision,
                        scores[c].recall, scores[c].f1, scores[c].support);
  }
  return text;
}

}  // namespace

ExitCode run_evaluate(int argc, char** argv, Results& results) {
  Parser parser("evaluate", "Loss, accuracy, confusion matrix and scores per class.",
                {"cuda-mnist evaluate", "cuda-mnist evaluate --model run1.h5 --json"});
  TestOptions options;
  bool json = false;
  add_test_options(parser, options);
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const TestedModel tested = test_model(load_digit_model(options.model), options, 0);
  const Confusion& confusion = tested.answers.confusion;
  const auto scores = class_scores(confusion);

  if (json) {
    Json per_class = Json::array();
    for (size_t c = 0; c < kClasses; ++c)
      per_class.push_back({{"class", c},
                           {"precision", scores[c].precision},
                           {"recall", scores[c].recall},
                           {"f1", scores[c].f1},
                           {"support", scores[c].support}});
    Json object{{"loss", tested.loss},
                {"accuracy", tested.accuracy},
                {"samples", tested.answers.samples},
                {"confusion", confusion},
                {"per_class", per_class},
                {"model", options.model},
                {"dataset", tested.data.name},
                {"math", name_of(options.device.math)}};
    if (options.device.math == Math::kFp16) object["saturated"] = tested.saturated;
    results.json(object);
  } else {
    results.text(fmt::format("{} on {} test images of {}: accuracy: {:.4f} - loss: {:.4f}\n",
                             options.model, grouped(tested.answers.samples), tested.data.name,
                             tested.accuracy, tested.loss) +
                 table(confusion, scores));
  }
  return ExitCode::kOk;
}

}  // namespace mnist::cli
