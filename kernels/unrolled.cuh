// Loops that are always unrolled.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>
#include <utility>

namespace mnist::MNIST_TARGET {

// f(0), ..., f(count - 1), each with its number as a constant: always unrolled, so that arrays
// indexed by it can live in registers. g++ has to be told to inline the lambda, too:
// [&](auto i) INLINED { ... }.
#define INLINED __attribute__((always_inline))
template <typename F, int... i>
__device__ __forceinline__ void unrolled(F&& f, std::integer_sequence<int, i...>) {
  (f(std::integral_constant<int, i>()), ...);
}
template <int count, typename F>
__device__ __forceinline__ void unrolled(F&& f) {
  unrolled(f, std::make_integer_sequence<int, count>());
}

// f(0, 0), f(0, 1), ..., f(rows - 1, cols - 1) in the same way.
template <int cols, typename F, int... i>
__device__ __forceinline__ void unrolled2(F&& f, std::integer_sequence<int, i...>) {
  (f(std::integral_constant<int, i / cols>(), std::integral_constant<int, i % cols>()), ...);
}
template <int rows, int cols, typename F>
__device__ __forceinline__ void unrolled2(F&& f) {
  unrolled2<cols>(f, std::make_integer_sequence<int, rows * cols>());
}

}  // namespace mnist::MNIST_TARGET
