// exp and log in float32, the same bits on every target: fmaf, additions, multiplications and
// integer operations alone, each rounded as IEEE 754 says. No table, no branch.
//
// Over all floats (tried one by one, against double precision) exp is at most 0.892 and log at most
// 0.883 ulp away from the true value, denormals included. NaN gives NaN.
#pragma once

#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// ln 2 = kLn2High + kLn2Low. Products of the first by an exponent fit a float.
inline constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;

// e^x = 2^n e^r with n the integer nearest to x / ln 2 and |r| <= ln 2 / 2. Beyond the clamps e^x
// is 0 or infinite anyway.
//   e^r = 1 + r + r^2 q(r),  q of degree 4, relative error 2^-28
__host__ __device__ inline float exponential(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  constexpr float kRound = 0x1.8p23f;  // integers follow each other from here on
  const float shifted = fmaf(x, 0x1.715476p0f, kRound);
  const float n = shifted - kRound;
  const float r = fmaf(n, -kLn2Low, fmaf(n, -kLn2High, x));
  float q = fmaf(0x1.6a50bep-10f, r, 0x1.123976p-7f);
  q = fmaf(q, r, 0x1.5558acp-5f);
  q = fmaf(q, r, 0x1.555492p-3f);
  q = fmaf(q, r, 0x1.fffffcp-2f);
  const float power = fmaf(fmaf(q, r, 1.0f), r, 1.0f);
  // 2^n may be no float, where e^x is infinite or denormal: the halves of n are exponents of
  // floats. The first product is exact, so that the result is rounded once.
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const int32_t half = exponent >> 1;
  return power * std::bit_cast<float>((half + 127) << 23) *
         std::bit_cast<float>((exponent - half + 127) << 23);
}

// x = 2^n (1 + f) with 1 + f in [2/3, 4/3).
//   log(1 + f) = f + f^2 q(f),  q of degree 8, relative error 2^-27
__host__ __device__ inline float logarithm(float x) {
  const bool denormal = x < 0x1p-126f;
  const uint32_t bits = std::bit_cast<uint32_t>(denormal ? x * 0x1p23f : x);
  const uint32_t exponent = (bits - 0x3f2aaaabu) & ~0x7fffffu;  // of 2/3: n << 23
  const float f = std::bit_cast<float>(bits - exponent) - 1.0f;
  const float n = float(int32_t(exponent) >> 23) - (denormal ? 23.0f : 0.0f);
  float q = fmaf(-0x1.07d88ap-3f, f, 0x1.1e6e2ap-3f);
  q = fmaf(q, f, -0x1.f3293ap-4f);
  q = fmaf(q, f, 0x1.1ed52ap-3f);
  q = fmaf(q, f, -0x1.559cc0p-3f);
  q = fmaf(q, f, 0x1.99d052p-3f);
  q = fmaf(q, f, -0x1.fffef8p-3f);
  q = fmaf(q, f, 0x1.555506p-2f);
  q = fmaf(q, f, -0.5f);
  const float sum = fmaf(n, kLn2High, f), lost = f - fmaf(-n, kLn2High, sum);  // by rounding
  const float value = sum + (fmaf(f * f, q, n * kLn2Low) + lost);
  const float special = x == 0.0f ? -INFINITY : x < 0.0f ? NAN : x;  // x: infinity or NaN
  return x > 0.0f && x < INFINITY ? value : special;
}

}  // namespace mnist::MNIST_TARGET
