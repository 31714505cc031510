#include "host/cli/commands/test_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "host/cli/output.h"
#include "host/cli/signals.h"

namespace mnist::cli {

void add_test_options(Parser& parser, TestOptions& options) {
  parser.add_option("--model", options.model, "Model file")
      ->type_name("FILE.h5")
      ->capture_default_str();
  add_data_options(parser, options.data);
  add_device_options(parser, options.device);
  add_backend_option(parser, options.device);
  add_math_option(parser, options.device);
  parser
      .add("--limit", options.limit, whole_number<int64_t>(1, 1'000'000'000),
           "Only the first N test images")
      ->default_str("all");
}

TestedModel test_model(ModelFile file, const TestOptions& options, size_t mistakes) {
  const Target target = choose_target(options.device);
  DatasetRequest request = options.data.request();
  request.limit = 1;  // no training image is needed
  TestedModel tested{std::move(file), load_data(request), {}, 0, 0, 0, {}};
  StopSignals::throw_if_received("nothing was written");
  const ImageSet& set = tested.data.test;
  const int64_t count = options.limit > 0 ? std::min(options.limit, set.count) : set.count;

  const std::unique_ptr<Engine> engine = inference_engine(tested.file, target, options.device);
  engine->set_validation_set(set.first_samples(count));
  const Metrics metrics = engine->evaluate();
  tested.device = engine->device();
  tested.loss = double(float(metrics.loss()));
  tested.accuracy = double(float(metrics.accuracy()));
  tested.saturated = metrics.saturated;
  if (metrics.saturated > 0)
    message(
        fmt::format("{}: {} numbers were beyond FP16's range and became 65504, its largest; "
                    "--math fp32 has no such limit",
                    options.model, grouped(metrics.saturated)));
  if (!std::isfinite(tested.loss))
    throw Error(ExitCode::kInternal,
                fmt::format("the loss of {} on {} test images of {} is infinite or NaN: with its "
                            "weights the network overflows. Train it again with a smaller "
                            "--learning-rate.",
                            options.model, grouped(metrics.samples), tested.data.name));
  tested.answers = find_answers(*engine, set, count, mistakes);
  return tested;
}

}  // namespace mnist::cli
