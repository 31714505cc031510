// Kernels: what the compiler's start-up code registers, and launches of them.
#pragma once

#include <driver_types.h>
#include <vector_types.h>

#include <cstddef>

namespace machine_code {

struct Kernel;

// By the address of its host function; null if it was not registered.
Kernel* find_kernel(const void* function);
const char* name_of(const Kernel* kernel);  // mangled

// `dependent`: it may begin before the stream's last kernel has ended (griddepcontrol).
cudaError_t launch(Kernel* kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                   bool dependent, cudaStream_t stream);

// All launches so far have ended before what follows begins, even a dependent launch.
void everything_ended();

// What all launches so far would have taken, one after the other, as far as the executor predicts
// it; else a microsecond each.
double device_seconds();

// The words of the last fault that the executor reported; empty if there was none.
const char* last_fault();

}  // namespace machine_code
