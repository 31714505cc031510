// Two backends on the same inputs: check-backends, and the tests of either backend.
#pragma once

#include <vector>

#include "host/engine/backends/op_case.h"
#include "host/engine/check.h"
#include "host/engine/device/stream.h"

namespace mnist::MNIST_TARGET {

struct CheckCase {
  Operation operation;
  std::vector<int> batches;  // each at most operation.batch
};
// Every kind of operation: the default model's shapes at the given batch, both paddings, strides,
// channels on and off the edges of tiles; full, short and single batches.
std::vector<CheckCase> check_cases(int model_batch);

// Values for one batch, the same in every run: no two values of x are equal, so that a pooling has
// one winner. dy [output] is that behind a ReLU where the operation ends in one; for a pair it is
// also zero at windows of the pooling whose winner a rounding error could change.
struct CheckInputs {
  std::vector<float> x, weights, dy;
};
CheckInputs check_inputs(Backend& native, const Operation& operation, int n);

// An operation with its tensors in host memory.
class HostOperation {
 public:
  HostOperation(Backend& backend, const Operation& operation)
      : operation_(operation), on_device_(backend, operation) {}

  std::vector<float> forward(const std::vector<float>& x, const std::vector<float>& weights, int n);

  struct Gradients {
    std::vector<float> weights, x;  // weights: as the arena, zero in the gaps
  };
  // After forward(), whose result y is.
  Gradients backward(const std::vector<float>& dy, const std::vector<float>& x,
                     const std::vector<float>& y, const std::vector<float>& weights, bool gate,
                     int n);

 private:
  const Operation operation_;
  const Stream stream_;
  BackendOperation on_device_;
};

// Magnitudes (host/engine/check.h) are those that the native backend computes from absolute
// values.
std::vector<OperationDifference> compare_backends(Backend& native, Backend& other,
                                                  const std::vector<CheckCase>& cases);

}  // namespace mnist::MNIST_TARGET
