// The cpu target's ../lanes/thread_tile.cuh: the same sums in the same order, with a row of
// accumulators as one vector. In the plain loops g++ would keep them in memory or in scalars.
#pragma once

#include <cuda_runtime.h>

#include <cstring>

namespace mnist::MNIST_TARGET {

template <int TM, int TN, int kGroupStride>
class ThreadTile {
  static_assert(TN == 8, "a row is one vector of eight floats");

 public:
  static constexpr int kRows = TM, kCols = TN;
  static constexpr int row(int i) { return i / 4 * kGroupStride + i % 4; }

  void add_product(const float* a, const float* b) {
    Row frag_b;
    std::memcpy(&frag_b, b, sizeof(frag_b));
#pragma GCC unroll 16
    for (int i = 0; i < TM; ++i) {
      const float frag_a = a[row(i)];
      Row& acc = acc_[i];
      const auto fma = [&](int j) { return fmaf(frag_a, frag_b[j], acc[j]); };
      acc = Row{fma(0), fma(1), fma(2), fma(3), fma(4), fma(5), fma(6), fma(7)};
    }
  }

  float4 at(int i, int j) const {
    return make_float4(acc_[i][j], acc_[i][j + 1], acc_[i][j + 2], acc_[i][j + 3]);
  }
  void add(int i, int j, float4 v) {
    acc_[i][j] += v.x;
    acc_[i][j + 1] += v.y;
    acc_[i][j + 2] += v.z;
    acc_[i][j + 3] += v.w;
  }

 private:
  typedef float Row __attribute__((vector_size(32)));
  Row acc_[TM] = {};
};

}  // namespace mnist::MNIST_TARGET
