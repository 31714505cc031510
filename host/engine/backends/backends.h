// The backends by name. Only backends.cpp knows which of them this build has.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "host/engine/backends/backend.h"
#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

struct BackendOptions {
  // Of kCudnn: convolution algorithms by cuDNN's timing search, for benchmarks. Otherwise by its
  // heuristic, which chooses the same in every run.
  bool timed_search = false;
  // Of kCudnn: operands of convolutions and products in FP16, their sums in float32.
  bool fp16 = false;
};

// Throws Error(kUnavailable), one line with the cure, where the build, this target or this machine
// lacks the backend.
std::unique_ptr<Backend> make_backend(BackendKind kind, const BackendOptions& options = {});

// "cuDNN 9.19.0, cuBLAS 13.1.0"; throws Error(kUnavailable) where the libraries cannot be loaded.
std::string cudnn_versions();

// This project's kernels (native.cpp).
std::unique_ptr<Backend> make_native_backend();

// Layer number `layer`, a dropout, on this project's kernels, for backends whose library has none;
// its masks depend on that number. Null if it changes nothing.
std::unique_ptr<LayerOp> make_dropout_op(const Model& model, int layer, Mode mode, uint64_t seed);

}  // namespace mnist::MNIST_TARGET
