// What check-backends, and the tests of either backend, run.
#pragma once

#include <vector>

#include "host/engine/backends/op_case.h"

namespace mnist::MNIST_TARGET {

struct CheckCase {
  OpCase op_case;
  std::vector<int> batches;  // each at most op_case.batch
};
// Every kind of operation: the default model's shapes at the given batch, both paddings, strides,
// channels on and off the edges of tiles; full, short and single batches.
std::vector<CheckCase> check_cases(int model_batch);

}  // namespace mnist::MNIST_TARGET
