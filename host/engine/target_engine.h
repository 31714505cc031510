// The engine of this target.
#pragma once

#include <memory>

#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

std::unique_ptr<Engine> make_engine(const Model& model, const EngineConfig& config);

}  // namespace mnist::MNIST_TARGET
