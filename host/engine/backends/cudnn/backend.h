// The backend on cuDNN and cuBLAS.
#pragma once

#include <memory>

#include "host/engine/backends/backend.h"
#include "host/engine/backends/cudnn/module.h"

namespace mnist::MNIST_TARGET {

// What the libraries lack (dropout) runs on the kernels of this project. Throws Error(kUnavailable)
// where the module or a library cannot be loaded, or the libraries do not start.
std::unique_ptr<Backend> make_cudnn_backend(const CudnnOptions& options = {});

// The same on a library that is there already.
std::unique_ptr<Backend> make_cudnn_backend(std::unique_ptr<CudnnLibrary> library);

}  // namespace mnist::MNIST_TARGET
