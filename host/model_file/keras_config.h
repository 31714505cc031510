// The JSON texts of a Keras HDF5 file: the model's architecture and how it was compiled.
#pragma once

#include <string>
#include <vector>

#include "host/model/model.h"

namespace mnist {

// `model_config` in Keras 2 style, which Keras 2 and 3 both read. ASCII.
std::string model_config(const Model& model);

// `training_config`: Adam, categorical cross-entropy, accuracy. ASCII.
std::string training_config(float learning_rate);

struct ConfiguredModel {
  Model model;
  std::vector<std::string> warnings;  // what was read differently from what it says
};

// Reads the `model_config` of any Keras 2 or 3. Activation, ReLU and Softmax layers become part of
// the layer they follow. Throws Error(kBadInput) naming the layer that is not supported.
ConfiguredModel parse_model_config(const std::string& json);

}  // namespace mnist
