// What the writer and the reader of model files share: names, the list of stored scalars, the
// digest.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "host/error.h"
#include "host/model_file/model_file.h"

namespace mnist::model_file {

// The file is to blame; the message needs no path yet.
[[noreturn]] inline void fail(const std::string& message) {
  throw Error(ExitCode::kBadInput, message);
}

// Where a tensor is stored below its root: <layer>/<parameter>.
inline std::string path_of(const Model& model, const Parameter& parameter) {
  return model.layers[size_t(parameter.layer)].name + "/" + parameter.name;
}

// Root attributes that mark a file of ours. Both are there, or neither.
inline constexpr char kFormat[] = "cuda_mnist_format";
inline constexpr char kFormatVersion[] = "1";
inline constexpr char kFp16FormatVersion[] = "2";  // of a run in FP16, which 1 does not know
inline constexpr char kDigest[] = "cuda_mnist_sha256";

inline constexpr char kState[] = "cuda_mnist_state";  // group: RunState
inline constexpr char kArch[] = "arch";               // its attribute: arch_string()

// Root attributes that Keras reads or shows.
struct Texts {
  std::string model_config, training_config, keras_version, backend;
};

// Calls f(name, field) for each scalar of a RunState that is an attribute of its group.
template <typename State, typename F>
void for_each_attribute(State& state, const F& f) {
  f("seed", state.seed);
  f("epoch", state.epoch);
  f("batch", state.batch);
  f("loss_sum", state.sums.loss_sum);
  f("correct", state.sums.correct);
  f("samples", state.sums.samples);
  f("batches", state.sums.batches);
  f("first_nonfinite", state.sums.first_nonfinite);
  f("batch_size", state.batch_size);
  f("shuffle", state.shuffle);
  f("train_samples", state.train_samples);
  f("dataset", state.dataset);
  f("log_bytes", state.log_bytes);
}

// Those that only a run in FP16 has: the file of another is that of earlier versions, to the byte.
inline constexpr char kMath[] = "math";
template <typename State, typename F>
void for_each_fp16_attribute(State& state, const F& f) {
  f(kMath, state.math);
  f("saturated", state.sums.saturated);
}

// Those that are datasets, since people read them from Python.
template <typename State, typename F>
void for_each_scalar_dataset(State& state, const F& f) {
  f("iteration", state.iteration);
  f("learning_rate", state.learning_rate);
}

// Hex SHA-256 over name, shape and bytes of every tensor, and over all else that a reader relies
// on.
std::string digest(const Texts& texts, const Model& model, std::span<const float> weights,
                   const RunState* state);

// The bytes of the whole file.
std::vector<std::byte> build_image(const Model& model, const std::vector<float>& weights,
                                   const RunState* state);

// What an HDF5 file holds, unvalidated. Weights and moments are in arena layout.
struct Contents {
  Texts texts;
  std::string format, digest;  // empty: not there
  std::vector<float> weights;
  std::optional<RunState> state;
  std::string arch;
};

// Parses an HDF5 file. Made for a sandbox: a damaged file may crash the library or make it hang.
// Throws Error whose text says what is wrong.
Contents parse_image(std::span<const std::byte> image);

// The parser, or the library below it, could make nothing of the file.
struct Damaged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// parse_image() in a child process. Throws Error(kBadInput), Damaged.
Contents parse_in_sandbox(std::span<const std::byte> image);

// Checks sizes, values and digest. Throws Error(kBadInput).
ModelFile validate(Contents contents);

}  // namespace mnist::model_file
