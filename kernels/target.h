// MNIST_TARGET, the namespace of everything that includes <cuda_runtime.h>.
//
// Kernels and engine are compiled twice, by nvcc against NVIDIA's <cuda_runtime.h> and by g++
// against the one in kernels/simt/, and both results are linked into one program. The build defines
// MNIST_TARGET as `cuda` for the first and `cpu` for the second, so that the two copies of a
// function have different names: mnist::cuda::adam and mnist::cpu::adam.
#pragma once

#ifndef MNIST_TARGET
#error "define MNIST_TARGET as cuda or cpu; code that serves both targets includes no CUDA header"
#endif
