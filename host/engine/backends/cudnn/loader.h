// Finds and loads the module with the cuDNN backend (host/engine/backends/cudnn/module.h).
#pragma once

#include <string>
#include <vector>

#include "host/engine/backends/cudnn/module.h"

namespace mnist::MNIST_TARGET {

// Beside the program, or where the dynamic linker looks. Loaded once and never unloaded. Throws
// Error(kUnavailable), one line that names what is missing and how to get it.
const CudnnModule& load_cudnn_module();

// The same from a given file; a name without a slash is searched for by the dynamic linker.
const CudnnModule& load_cudnn_module(const std::string& file);

}  // namespace mnist::MNIST_TARGET
