// Checks what the parser found in a file before the program uses it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "host/model_file/format.h"
#include "host/model_file/keras_config.h"
#include "host/text.h"

namespace mnist::model_file {
namespace {

void check_finite(const Model& model, std::span<const float> arena, const char* what) {
  for (const Parameter& p : model.parameters)
    for (const float value : arena.subspan(p.offset, p.size))
      if (!std::isfinite(value))
        fail(fmt::format("{}: {} has {} that are NaN or infinite",
                         model.layers[size_t(p.layer)].name, p.name, what));
}

void check_state(const Model& model, const Contents& contents) {
  const RunState& s = *contents.state;
  if (s.m.size() != model.arena_size || s.v.size() != model.arena_size)
    fail("the moments do not fit the model");
  check_finite(model, s.m, "moments");
  check_finite(model, s.v, "moments");
  const bool sensible =
      s.iteration >= 0 && s.epoch >= 0 && s.batch >= 0 && s.batch_size >= 1 &&
      s.train_samples >= 0 && s.sums.samples >= 0 && s.sums.batches >= 0 && s.sums.correct >= 0 &&
      s.sums.first_nonfinite >= 0 && s.sums.saturated >= 0 && std::isfinite(s.learning_rate) &&
      s.learning_rate > 0 && (s.math == Math::kFp32 || s.math == Math::kFp16) &&
      s.batch <= s.train_samples / s.batch_size + 1 && contents.arch == arch_string(model);
  if (!sensible) fail("the state of the training run makes no sense");
}

// Both marks of a file of ours are there, and the contents are those that were saved.
void check_digest(const Model& model, const Contents& contents) {
  if (!contents.format.empty() && contents.format != kFormatVersion &&
      contents.format != kFp16FormatVersion)
    fail(fmt::format("it is of format {}, which this cuda-mnist does not know; use a newer one",
                     printable(contents.format, 20)));
  const RunState* state = contents.state ? &*contents.state : nullptr;
  if (contents.format.empty() ||
      digest(contents.texts, model, contents.weights, state) != contents.digest)
    fail(
        "it was changed or damaged after it had been saved: the checksum does not fit; restore a "
        "copy");
}

}  // namespace

ModelFile validate(Contents contents) {
  ConfiguredModel configured = parse_model_config(contents.texts.model_config);
  ModelFile file;
  file.model = std::move(configured.model);
  file.warnings = std::move(configured.warnings);
  if (contents.weights.size() != file.model.arena_size) fail("the weights do not fit the model");
  check_finite(file.model, contents.weights, "weights");
  if (contents.state) check_state(file.model, contents);

  if (contents.format.empty() && contents.digest.empty()) {
    const std::string& version = contents.texts.keras_version;
    file.writer = "Keras " + (version.empty() ? "of unknown version" : printable(version, 40));
  } else {
    check_digest(file.model, contents);
    file.writer = "cuda-mnist";
    file.checksum = contents.digest;
    file.checksum_verified = true;
  }
  file.weights = std::move(contents.weights);
  file.state = std::move(contents.state);
  return file;
}

}  // namespace mnist::model_file
