// An operation of a backend with its tensors in host memory.
#pragma once

#include <vector>

#include "host/engine/backends/op_case.h"
#include "host/engine/device/stream.h"

namespace mnist::MNIST_TARGET {

class CaseOnHost {
 public:
  CaseOnHost(Backend& backend, const OpCase& op_case)
      : case_(op_case), on_device_(backend, op_case) {}

  std::vector<float> forward(const std::vector<float>& x, const std::vector<float>& weights, int n);

  struct Gradients {
    std::vector<float> weights, x;  // weights: as the arena, zero in the gaps
  };
  // After forward(), whose result y is.
  Gradients backward(const std::vector<float>& dy, const std::vector<float>& x,
                     const std::vector<float>& y, const std::vector<float>& weights, bool gate,
                     int n);

 private:
  const OpCase case_;
  const Stream stream_;
  CaseOnBackend on_device_;
};

}  // namespace mnist::MNIST_TARGET
