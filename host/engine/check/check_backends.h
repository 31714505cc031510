// How far two backends' numbers are apart.
#pragma once

#include <vector>

#include "host/engine/backends/backend.h"
#include "host/engine/check.h"
#include "host/engine/check/check_cases.h"

namespace mnist::MNIST_TARGET {

// Magnitudes (host/engine/check.h) are those that the native backend computes from absolute
// values.
std::vector<OperationDifference> differences(Backend& native, Backend& other,
                                             const std::vector<CheckCase>& cases);

// native in float32 against cudnn in the given arithmetic. Throws Error(kUnavailable) where there
// is no cuDNN.
std::vector<OperationDifference> check_backends(Math math);

}  // namespace mnist::MNIST_TARGET
