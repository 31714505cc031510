// How the kernels see the lanes of a warp: as the GPU runs them (this directory), or as vectors of
// the processor (simt/). Each pair of headers declares the same things. The cpu target's build
// defines MNIST_LANES_AS_VECTORS; its tests also run the kernels without, lane by lane.
#pragma once

#ifdef MNIST_LANES_AS_VECTORS
#include "kernels/simt/thread_tile.cuh"
#include "kernels/simt/warp_float.cuh"
#include "kernels/simt/warp_mma.cuh"
#else
#include "kernels/lanes/thread_tile.cuh"
#include "kernels/lanes/warp_float.cuh"
#include "kernels/lanes/warp_mma.cuh"
#endif
