// What the device can do at most.
#pragma once

#include <cstddef>

#include "host/engine/bench.h"

namespace mnist::MNIST_TARGET {

DevicePeak device_peak();  // zeros on the cpu target: unknown
size_t cache_bytes();      // of the last-level cache; a guess on the cpu target

}  // namespace mnist::MNIST_TARGET
