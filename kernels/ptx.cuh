// The instructions that C++ cannot say, under PTX's names. Source of every layout: the PTX ISA,
// chapters "Matrix multiply-accumulate", "ldmatrix", "cp.async" and "griddepcontrol". The cpu
// target's twin, simt/ptx.cuh, does the same and stops where an instruction is misused.
//
// All 32 lanes of a warp execute ldmatrix and mma together. Below, g = lane / 4, t = lane % 4, and
// a pair is two halves in one register, the lower address or index in the lower 16 bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/shapes.h"
#include "kernels/target.h"

#ifdef MNIST_SIMT
#include "kernels/simt/ptx.cuh"
#else

namespace mnist::MNIST_TARGET {

namespace ptx_detail {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
}

}  // namespace ptx_detail

// ---- FP16 ---------------------------------------------------------------------------------------
// Both rounded to nearest, ties to even; infinite from 65520 on.
__device__ __forceinline__ uint32_t pack_half2(float low, float high) {
  uint32_t pair;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
  asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
      : "=r"(pair)
      : "f"(low), "f"(high));
#endif
  return pair;
}
__device__ __forceinline__ float half_to_float(Half bits) {
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
  return v;
}

// ---- arithmetic ---------------------------------------------------------------------------------
// v between 0 and 1; 0 for a NaN.
__device__ __forceinline__ float clamp_to_one(float v) {
  return __saturatef(v);
}
// Lets v be computed here, not later where it is used.
__device__ __forceinline__ void compute_now(int& v) {
  asm volatile("" : "+r"(v));
}

// ---- prmt ---------------------------------------------------------------------------------------
// Four bytes of the eight of (a, b), a's lowest being byte 0. The lowest four hexadecimal digits of
// `selector` say which, the lowest for the lowest byte; plus 8: its highest bit, eight times.
__device__ __forceinline__ uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(a), "r"(b), "r"(selector));
  return bytes;
}

// ---- ldmatrix -----------------------------------------------------------------------------------
// Four 8x8 matrices of halves from shared memory: lane 8i + j has the address of row j of matrix i,
// 16 bytes aligned to 16. r[i] = the pair (row g, columns 2t and 2t+1) of matrix i; transposed: the
// pair (rows 2t and 2t+1, column g).
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(ptx_detail::shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(ptx_detail::shared_address(row))
               : "memory");
}
// Two matrices, from the addresses of lanes 0 to 15.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(ptx_detail::shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(ptx_detail::shared_address(row))
               : "memory");
}

// ---- mma ----------------------------------------------------------------------------------------
// d [16,8] += a [16,16] b [16,8], halves with float32 sums.
//   a[i]: row g + 8 (i%2), columns 2t + 8 (i/2) and the next    (the matrices of an ldmatrix_x4)
//   b[i]: rows 2t + 8i and the next, column g
//   d[i]: row g + 8 (i/2), column 2t + i%2
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int i = 0; i < 2; ++i)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
}

// ---- cp.async -----------------------------------------------------------------------------------
// Copies 16 bytes from global to shared memory, both aligned to 16. They are there for this thread
// after cp_async_wait, for the others after a barrier that follows it. Before sm_80: at once.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(ptx_detail::shared_address(shared)),
      "l"(global)
      : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}
// Ends a group of copies.
__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until all groups but the kLater last ones have arrived.
template <int kLater>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLater) : "memory");
#endif
}

// ---- griddepcontrol -----------------------------------------------------------------------------
// In kernels that launch_dependent() (launch.h) launches. Nothing of global memory that the kernel
// launched before writes may be read, and nothing that it reads or writes may be written, before
// this: it returns when that kernel has ended and all of its writes are visible. Before sm_90 the
// kernel does not start earlier, and this does nothing.
__device__ __forceinline__ void griddepcontrol_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// From now on (once every block has said so, or ended) the next kernel may start. Always after this
// kernel's own wait: so what ran before the kernel launched before has ended when a kernel starts.
__device__ __forceinline__ void griddepcontrol_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace mnist::MNIST_TARGET

#endif
