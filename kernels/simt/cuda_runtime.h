// Stands in for NVIDIA's <cuda_runtime.h> on the cpu target: kernels and engine include it
// unchanged. What is supported, and what the runtime guarantees: README.md beside this file.
#pragma once

#define MNIST_SIMT 1

#include "kernels/simt/control.h"
#include "kernels/simt/device.h"
#include "kernels/simt/runtime_api.h"
#include "kernels/simt/vector_types.h"

// Everything above lives in namespace simt, so that it can be linked into one program with the real
// CUDA runtime; here it becomes visible under CUDA's names.
using namespace simt;
