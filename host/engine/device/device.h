// The device of this target.
#pragma once

#include <string>
#include <vector>

#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

// Why kernels cannot run here, with the cure, in one line; empty if they can.
std::string unusable_reason();

// Throws CudaError where unusable.
DeviceInfo device_info();

// The same, and selects that device by its number: CUDA does not choose anew for a library, nor
// when another process takes or leaves a device.
DeviceInfo use_device();

// This target's part of the functions of the same names in engine.h.
std::vector<DeviceInfo> devices();
std::string select_device(int index);

// Uses up to `threads` OS threads on the cpu target (0: one per core); nothing on a GPU.
void use_threads(int threads);

}  // namespace mnist::MNIST_TARGET
