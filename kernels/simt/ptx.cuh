// The cpu target's ../ptx.cuh: the same instructions lane by lane, by the same tables. What
// hardware forgives, or does only sometimes, ends the program here; see README.md. A warp's lanes
// meet once for a load or a product, and the last one does the work for all.
#pragma once

#include <cuda_runtime.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// ---- FP16 ---------------------------------------------------------------------------------------
// By integers where the processor has no instructions for it; not by _Float16, which clang 14
// lacks.
__forceinline__ Half float_to_half(float v) {
#if defined(__F16C__)
  return Half(_cvtss_sh(v, _MM_FROUND_TO_NEAREST_INT));
#else
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return Half(sign | 0x7e00);   // NaN
  if (bits >= 0x477ff000) return Half(sign | 0x7c00);  // from 65520 on
  if (bits <
      0x38800000) {  // below 2^-14: a sum with 0.5 is rounded to the half's last place, 2^-24
    const float sum = fabsf(v) + 0.5f;
    std::memcpy(&bits, &sum, sizeof bits);
    return Half(sign | (bits - 0x3f000000));
  }
  // The exponent's offset from 127 to 15, and half a last place, less a bit if the place is even.
  return Half(sign | ((bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13));
#endif
}
__forceinline__ uint32_t pack_half2(float low, float high) {
  return float_to_half(low) | uint32_t{float_to_half(high)} << 16;
}
__forceinline__ float half_to_float(Half bits) {
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#else
  const uint32_t magnitude = uint32_t(bits & 0x7fff) << 13;
  float v;
  std::memcpy(&v, &magnitude, sizeof v);
  v *= 0x1p112f;  // the exponent's offset from 15 to 127
  uint32_t result;
  std::memcpy(&result, &v, sizeof result);
  if (magnitude >= 0x0f800000) result = 0x7f800000 | magnitude;  // infinite, NaN
  result |= uint32_t(bits & 0x8000) << 16;
  std::memcpy(&v, &result, sizeof v);
  return v;
#endif
}

__forceinline__ float clamp_to_one(float v) {
  return v > 0 ? v < 1 ? v : 1.0f : 0.0f;
}
__forceinline__ void compute_now(int&) {}

// ---- prmt ---------------------------------------------------------------------------------------
__forceinline__ uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t from = a | uint64_t{b} << 32;
  uint32_t bytes = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t digit = selector >> (4 * i) & 15;
    const auto byte = uint8_t(from >> (8 * (digit & 7)));
    bytes |= uint32_t(digit < 8 ? byte : byte & 0x80 ? 0xFF : 0) << (8 * i);
  }
  return bytes;
}

namespace ptx_detail {

// ---- ldmatrix -----------------------------------------------------------------------------------
struct MatrixLoad {
  uint32_t* r;
  const void* row;
};

template <int kMatrices, bool kTransposed>
void load_matrices(void* const* lanes) {
  const auto of = [&](int lane) { return *static_cast<const MatrixLoad*>(lanes[lane]); };
  for (int i = 0; i < kMatrices; ++i) {
    Half matrix[8][8];
    for (int j = 0; j < 8; ++j) std::memcpy(matrix[j], of(8 * i + j).row, sizeof matrix[j]);
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const Half low = kTransposed ? matrix[2 * t][g] : matrix[g][2 * t];
      const Half high = kTransposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      of(lane).r[i] = low | uint32_t(high) << 16;
    }
  }
}

// Every lane's address is checked, also those of an x2 that only sm_75 looks at.
template <int kMatrices, bool kTransposed>
void ldmatrix(uint32_t (&r)[kMatrices], const void* row, Site site) {
  check_shared_16(row, site);
  MatrixLoad mine = {r, row};
  warp_together(&load_matrices<kMatrices, kTransposed>, &mine, site);
}

// ---- mma ----------------------------------------------------------------------------------------
struct Product {
  float* d;
  const uint32_t *a, *b;
};

// Products are exact. They are added one by one, k ascending, each sum rounded to nearest.
inline void multiply_m16n8k16(void* const* lanes) {
  float a[16][16], b[16][8], d[16][8];
  const auto get = [](float& low, float& high, uint32_t pair) {
    low = half_to_float(Half(pair));
    high = half_to_float(Half(pair >> 16));
  };
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const Product& mine = *static_cast<const Product*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      float* to = &a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)];
      get(to[0], to[1], mine.a[i]);
      d[g + 8 * (i / 2)][2 * t + i % 2] = mine.d[i];
    }
    for (int i = 0; i < 2; ++i) get(b[2 * t + 8 * i][g], b[2 * t + 8 * i + 1][g], mine.b[i]);
  }
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 8; ++n) d[m][n] += a[m][k] * b[k][n];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      static_cast<const Product*>(lanes[lane])->d[i] = d[g + 8 * (i / 2)][2 * t + i % 2];
  }
}

}  // namespace ptx_detail

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, SIMT_SITE) {
  ptx_detail::ldmatrix<4, false>(r, row, {file, line});
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SIMT_SITE) {
  ptx_detail::ldmatrix<4, true>(r, row, {file, line});
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, SIMT_SITE) {
  ptx_detail::ldmatrix<2, false>(r, row, {file, line});
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, SIMT_SITE) {
  ptx_detail::ldmatrix<2, true>(r, row, {file, line});
}

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_SITE) {
  ptx_detail::Product mine = {d, a, b};
  warp_together(&ptx_detail::multiply_m16n8k16, &mine, {file, line});
}

// ---- cp.async -----------------------------------------------------------------------------------
inline void cp_async_16(void* shared, const void* global, SIMT_SITE) {
  copy_async_16(shared, global, {file, line});
}
inline void cp_async_commit() {
  commit_copies();
}
template <int kLater>
void cp_async_wait() {
  await_copies(kLater);
}

// ---- griddepcontrol -----------------------------------------------------------------------------
inline void griddepcontrol_wait(SIMT_SITE) {
  await_predecessor({file, line});
}
inline void griddepcontrol_launch_dependents(SIMT_SITE) {
  allow_dependents({file, line});
}

}  // namespace mnist::MNIST_TARGET
