// The rows of the benchmark.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <vector>

#include "host/engine/bench.h"
#include "host/engine/bench/operands.h"

namespace mnist::MNIST_TARGET {

using Launch = std::function<void(cudaStream_t)>;

struct TableRow {
  BenchRow row;
  std::function<Launch(Operands&)> prepare;  // the launch on one set of buffers
};

// Every launcher of kernels.h (table_native.cpp); naive: the `_naive` ones too.
std::vector<TableRow> native_table(bool naive);
// The kernels of a training step in fused/fused.h, in their order, and all of that file but
// fused_gather (table_fused.cpp).
std::vector<TableRow> fused_step_table();
std::vector<TableRow> fused_table();
// The operations of the native backend, and beside each that of cuDNN (table_compare.cpp).
std::vector<TableRow> comparison_table(bool with_cudnn);
// The fused kernels of a step, and beside each what it replaces (table_compare_fused.cpp).
std::vector<TableRow> fused_comparison_table(bool with_cudnn);

}  // namespace mnist::MNIST_TARGET
