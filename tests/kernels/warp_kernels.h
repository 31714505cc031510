// Kernels that show what ptx.cuh and warp_mma.cuh do: for test_ptx.cpp and test_warp_mma.cpp.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// ---- ptx.cuh, by one block of 32 threads unless stated otherwise --------------------------------
// to[i] = pack_half2(from[2i], from[2i+1]), and half_to_float of its halves in back[2i],
// back[2i+1], for i < count.
void test_pack(uint32_t* to, float* back, const float* from, int count, cudaStream_t stream);

// to[i] = prmt(a[i], b[i], selectors[i]) for i < count.
void test_prmt(uint32_t* to, const uint32_t* a, const uint32_t* b, const uint32_t* selectors,
               int count, cudaStream_t stream);

// registers [32][count] of the count (2 or 4) matrices [count][8][8], which lie in shared memory
// row by row in an odd order.
void test_ldmatrix(uint32_t* registers, const Half* matrices, int count, bool transposed,
                   cudaStream_t stream);

// d [32][4], a [32][4], b [32][2]: registers of the lanes.
void test_mma(float* d, const uint32_t* a, const uint32_t* b, cudaStream_t stream);

// to [4][32][4] = from, copied in four groups; what has arrived is stored after the first two
// groups, after the third and after the last.
void test_cp_async(uint32_t* to, const uint32_t* from, cudaStream_t stream);

// steps times x[i] = 3 x[i] + step + constants[i], one kernel each, with the constants read before
// the wait for the last kernel; count is a multiple of 64.
void test_dependent(unsigned* x, const unsigned* constants, int count, int steps,
                    cudaStream_t stream);

// ---- warp_mma.cuh: d [2][16][columns] += a b, by two warps --------------------------------------
// How an operand lies in memory, and how it gets into a fragment.
enum class TestOperand { kRowMajor, kColMajor, kSet };  // set(): from a row-major matrix

// a [2][16][32], or [2][32][16] if it is column-major; b [2][32][columns], or [2][columns][32].
void test_warp_mma(float* d, const Half* a, const Half* b, int columns, TestOperand how_a,
                   TestOperand how_b, cudaStream_t stream);

}  // namespace mnist::MNIST_TARGET
