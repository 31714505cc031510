// The device behind a target.
#pragma once

#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

// Uses up to `threads` OS threads on the cpu target (0: one per core); nothing on a GPU.
void use_threads(int threads);

}  // namespace mnist::MNIST_TARGET
