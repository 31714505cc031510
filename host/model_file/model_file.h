// mnist.h5: a legacy Keras whole-model HDF5 file that every Keras 2 and 3 loads, with the run's
// state beside the model so that training can be resumed exactly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "host/model/math.h"
#include "host/model/metrics.h"
#include "host/model/model.h"

namespace mnist {

// What --resume needs beyond the weights. It is stored in /cuda_mnist_state, which Keras ignores.
struct RunState {
  std::vector<float> m, v;  // Adam moments, arena layout
  int64_t iteration = 0;    // updates done
  float learning_rate = 0.001f;
  uint64_t seed = 0;
  int64_t epoch = 0;  // epochs finished
  int64_t batch = 0;  // batches done of the epoch after them (a run stopped in mid-epoch)
  Metrics sums;       // metrics of those batches
  int batch_size = 128;
  Math math = Math::kFp32;
  bool shuffle = true;
  int64_t train_samples = 0;  // --limit or the whole set
  std::string dataset;        // name
  uint64_t log_bytes = 0;     // length of the training log when this was saved
};

struct ModelFile {
  Model model;
  std::vector<float> weights;     // arena layout
  std::optional<RunState> state;  // absent in files that are not ours
  std::string checksum;           // hex SHA-256 over all tensors; empty if the file has none
  bool checksum_verified = false;
  std::string writer;  // "cuda-mnist", or "Keras <version>"
  std::vector<std::string> warnings;
};

// Atomic: the file at `path` is the old one or the new one, whatever happens, and no temporary is
// left behind. Throws Error: kCannotCreate, kIoError.
void write_model_file(const std::filesystem::path& path, const Model& model,
                      const std::vector<float>& weights, const RunState* state);

// The file is parsed in a child process with limited resources, so that a hostile or damaged file
// can only end in an Error: kMissingInput, kBadInput (damaged, foreign, unsupported layer, ...). A
// checksum that is there but does not fit is kBadInput.
ModelFile read_model_file(const std::filesystem::path& path);

}  // namespace mnist
