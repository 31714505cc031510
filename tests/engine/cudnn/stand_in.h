// A stand-in for the CUDA runtime, cuDNN and cuBLASLt on host memory: as many of their functions as
// kernels/cudnn calls, with their real headers. Work runs at once, and what it computes follows the
// descriptors that it was given, by the loops of tests/support/reference.h. What the real libraries
// would refuse, or answer with garbage, is a fault: wrong shapes, layouts other than NHWC, operands
// beyond their allocation, reads of memory never written, too small workspaces, dead descriptors,
// streams that race, allocations while a graph is recorded, algorithms that are not deterministic,
// mixtures of FP16 and float32 that no library has.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <vector>

namespace mnist::stand_in {

// Back to the beginning: no faults, no launches, nothing fails. Objects stay.
void reset();

// What was wrong so far, one line each: "cudnnPoolingForward: ...".
const std::vector<std::string>& faults();

// Objects and memory not given back yet, one line each.
std::vector<std::string> alive();

// Makes call number `number` (from 1, counting from now) fail with an error; 0: none. Destroying
// and querying texts never fail and do not count.
void fail_call(int number);
// Name of the call that was made to fail; empty if none came that far.
std::string failed_call();
// The current device.
int device();
// How often a function was called since reset().
int calls(const std::string& function);

// Answers as if a graph were being recorded.
void set_capturing(bool capturing);
// cublasLt refuses to sum a factor beside the product.
void refuse_bias_gradient(bool refuse);
// cuDNN does not fuse bias and ReLU into a convolution.
void refuse_fusion(bool refuse);
// cuDNN proposes no deterministic algorithm.
void refuse_determinism(bool refuse);
// cuDNN has no convolution of halves.
void refuse_half(bool refuse);

struct Range {
  const std::byte* begin;
  const std::byte* end;
  bool overlaps(const Range& other) const { return begin < other.end && other.begin < end; }
};

// Work that a stream was given.
struct Launch {
  std::string function;
  cudaStream_t stream;
  const void* handle;
  std::vector<Range> reads, writes;
};
const std::vector<Launch>& launches();
// How much of it the host has not waited for.
size_t unfinished();

}  // namespace mnist::stand_in
