// Times the rows of a table on this target.
#pragma once

#include <memory>

#include "host/engine/bench.h"

namespace mnist::MNIST_TARGET {

// This target's part of the functions of the same names in host/engine/bench.h.
std::unique_ptr<KernelBench> make_kernel_bench(bool naive, int threads, Math math);
std::unique_ptr<KernelBench> make_comparison_bench(bool with_cudnn, int threads, Math math);

}  // namespace mnist::MNIST_TARGET
