// Tests on a device that is thousands of times slower than others leave out what adds least.
#pragma once

#include <cstdlib>

namespace mnist {

// Whether kernels are executed instruction by instruction: see tools/lab/machine_code.
inline bool slow_device() {
  return std::getenv("MNIST_MACHINE_CODE") != nullptr;
}

}  // namespace mnist
