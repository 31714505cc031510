// The engine of this target.
#pragma once

#include <memory>
#include <string>

#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

// As the functions of the same names in engine.h.
std::string math_unusable_reason(const Model& model, const EngineConfig& config);
std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config);

}  // namespace mnist::MNIST_TARGET
