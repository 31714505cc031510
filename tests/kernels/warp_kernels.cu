#include "tests/kernels/warp_kernels.h"

#include "kernels/common.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/ptx.cuh"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {

// ---- ptx.cuh ------------------------------------------------------------------------------------
__global__ void test_pack_kernel(uint32_t* to, float* back, const float* from, int count) {
  const int64_t i = element_index();
  if (i >= count) return;
  const uint32_t pair = pack_half2(from[2 * i], from[2 * i + 1]);
  to[i] = pair;
  back[2 * i] = half_to_float(Half(pair));
  back[2 * i + 1] = half_to_float(Half(pair >> 16));
}

void test_pack(uint32_t* to, float* back, const float* from, int count, cudaStream_t stream) {
  launch(test_pack_kernel, elementwise_grid(size_t(count)), dim3(kBlockSize), stream, to, back,
         from, count);
}

__global__ void test_prmt_kernel(uint32_t* to, const uint32_t* a, const uint32_t* b,
                                 const uint32_t* selectors, int count) {
  const int64_t i = element_index();
  if (i < count) to[i] = prmt(a[i], b[i], selectors[i]);
}

void test_prmt(uint32_t* to, const uint32_t* a, const uint32_t* b, const uint32_t* selectors,
               int count, cudaStream_t stream) {
  launch(test_prmt_kernel, elementwise_grid(size_t(count)), dim3(kBlockSize), stream, to, a, b,
         selectors, count);
}

template <int kCount>
__global__ void test_ldmatrix_kernel(uint32_t* registers, const Half* matrices, bool transposed) {
  const int lane = int(threadIdx.x);
  const auto slot = [](int row) { return dynamic_smem + (row * 13 + 5) % 32 * 16; };
  const int row = lane % (8 * kCount);
  *reinterpret_cast<uint4*>(slot(row)) = reinterpret_cast<const uint4*>(matrices)[row];
  __syncwarp();
  uint32_t r[kCount];
  if constexpr (kCount == 4) {
    if (transposed)
      ldmatrix_x4_trans(r, slot(row));
    else
      ldmatrix_x4(r, slot(row));
  } else {
    if (transposed)
      ldmatrix_x2_trans(r, slot(row));
    else
      ldmatrix_x2(r, slot(row));
  }
  for (int i = 0; i < kCount; ++i) registers[lane * kCount + i] = r[i];
}

void test_ldmatrix(uint32_t* registers, const Half* matrices, int count, bool transposed,
                   cudaStream_t stream) {
  launch_with_shared(count == 4 ? test_ldmatrix_kernel<4> : test_ldmatrix_kernel<2>, dim3(1),
                     dim3(32), 512, stream, registers, matrices, transposed);
}

__global__ void test_mma_kernel(float* d, const uint32_t* a, const uint32_t* b) {
  const int lane = int(threadIdx.x);
  float sums[4];
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) {
    sums[i] = d[lane * 4 + i];
    left[i] = a[lane * 4 + i];
  }
  for (int i = 0; i < 2; ++i) right[i] = b[lane * 2 + i];
  mma_m16n8k16(sums, left, right);
  for (int i = 0; i < 4; ++i) d[lane * 4 + i] = sums[i];
}

void test_mma(float* d, const uint32_t* a, const uint32_t* b, cudaStream_t stream) {
  launch(test_mma_kernel, dim3(1), dim3(32), stream, d, a, b);
}

__global__ void test_cp_async_kernel(uint4* to, const uint4* from) {
  const int lane = int(threadIdx.x);
  uint4* shared = reinterpret_cast<uint4*>(dynamic_smem);
  for (int group = 0; group < 4; ++group) {
    cp_async_16(&shared[group * 32 + lane], &from[group * 32 + lane]);
    cp_async_commit();
  }
  const auto store = [&](int group) {
    to[group * 32 + lane] = shared[group * 32 + (lane ^ 1)];  // what the neighbour has copied
  };
  cp_async_wait<2>();
  __syncwarp();
  store(0);
  store(1);
  cp_async_wait<1>();
  __syncwarp();
  store(2);
  cp_async_wait<0>();
  __syncwarp();
  store(3);
}

void test_cp_async(uint32_t* to, const uint32_t* from, cudaStream_t stream) {
  launch_with_shared(test_cp_async_kernel, dim3(1), dim3(32), 4 * 32 * 16, stream,
                     reinterpret_cast<uint4*>(to), reinterpret_cast<const uint4*>(from));
}

__global__ void test_dependent_kernel(unsigned* x, const unsigned* constants, unsigned step) {
  const int64_t i = element_index();
  const unsigned constant = constants[i];
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  x[i] = 3 * x[i] + step + constant;
}

void test_dependent(unsigned* x, const unsigned* constants, int count, int steps,
                    cudaStream_t stream) {
  for (int step = 0; step < steps; ++step)
    launch_dependent(test_dependent_kernel, dim3(unsigned(count / 64)), dim3(64), 0, stream, x,
                     constants, unsigned(step));
}

// ---- warp_mma.cuh -------------------------------------------------------------------------------
namespace {

constexpr int kWarps = 2, kSteps = 2, kK = 16 * kSteps;

// A matrix of halves in shared memory, with rows of 16 bytes more than they need.
struct Tile {
  Half* at;
  int columns;

  __device__ Half* row(int r) const { return at + r * (columns + 8); }
  __device__ uint32_t pair(int r, int c, int r2, int c2) const {
    return row(r)[c] | uint32_t(row(r2)[c2]) << 16;
  }
};

constexpr int kTileHalves = 40 * kK;  // enough for each

}  // namespace

template <int kColumns>
__global__ void test_warp_mma_kernel(float* d, const Half* a, const Half* b, TestOperand how_a,
                                     TestOperand how_b) {
  const int warp = warp_index();
  // The rows of each warp's tiles, the warps' one after the other.
  Half* shared = reinterpret_cast<Half*>(dynamic_smem);
  const int a_rows = how_a == TestOperand::kColMajor ? kK : 16, a_columns = 16 * kK / a_rows;
  const int b_rows = how_b == TestOperand::kColMajor ? kColumns : kK;
  const int b_columns = kColumns * kK / b_rows;
  const auto tile_a = [&](int w) { return Tile{shared + 2 * w * kTileHalves, a_columns}; };
  const auto tile_b = [&](int w) { return Tile{shared + (2 * w + 1) * kTileHalves, b_columns}; };
  block_for_each(kWarps * 16 * kK, [&](int i) {
    const int in_tile = i % (16 * kK);
    tile_a(i / (16 * kK)).row(in_tile / a_columns)[in_tile % a_columns] = a[i];
  });
  block_for_each(kWarps * kColumns * kK, [&](int i) {
    const int in_tile = i % (kColumns * kK);
    tile_b(i / (kColumns * kK)).row(in_tile / b_columns)[in_tile % b_columns] = b[i];
  });
  __syncthreads();

  const Tile ta = tile_a(warp), tb = tile_b(warp);
  Sums<kColumns> sums;
  float* out = d + warp * 16 * kColumns;
  warp_for_each([&](int lane) {
    for (int i = 0; i < sums.kCount; ++i)
      sums.at(lane, i) = out[sums.row(lane, i) * kColumns + sums.column(lane, i)];
  });
  for (int k = 0; k < kK; k += 16) {
    FragA fa;
    FragB<kColumns> fb;
    if (how_a == TestOperand::kRowMajor) {
      load_a_row_major(fa, [&](int lane) { return ta.row(lane % 16) + k + 8 * (lane / 16); });
    } else if (how_a == TestOperand::kColMajor) {
      load_a_col_major(fa, [&](int lane) {
        return ta.row(k + lane % 8 + 8 * (lane / 16)) + 8 * (lane / 8 % 2);
      });
    } else {
      warp_for_each([&](int lane) {
        for (int r = 0; r < 4; ++r) {
          const int m = lane / 4 + 8 * (r % 2), c = k + 2 * (lane % 4) + 8 * (r / 2);
          fa.set(lane, r, ta.pair(m, c, m, c + 1));
        }
      });
    }
    if (how_b == TestOperand::kRowMajor) {
      load_b_row_major(fb, [&](int lane) { return tb.row(k + lane % 16) + 8 * (lane / 16); });
    } else if (how_b == TestOperand::kColMajor) {
      load_b_col_major(fb, [&](int lane) {
        return tb.row(lane % 8 + 8 * (lane / 16)) + k + 8 * (lane / 8 % 2);
      });
    } else {
      warp_for_each([&](int lane) {
        for (int r = 0; r < kColumns / 4; ++r) {
          const int row = k + 2 * (lane % 4) + 8 * (r % 2), n = lane / 4 + 8 * (r / 2);
          fb.set(lane, r, tb.pair(row, n, row + 1, n));
        }
      });
    }
    mma(sums, fa, fb);
  }
  warp_for_each([&](int lane) {
    for (int i = 0; i < sums.kCount; ++i)
      out[sums.row(lane, i) * kColumns + sums.column(lane, i)] = sums.at(lane, i);
  });
}

void test_warp_mma(float* d, const Half* a, const Half* b, int columns, TestOperand how_a,
                   TestOperand how_b, cudaStream_t stream) {
  launch_with_shared(columns == 16 ? test_warp_mma_kernel<16> : test_warp_mma_kernel<8>, dim3(1),
                     dim3(kWarpThreads, kWarps), 2 * kWarps * kTileHalves * sizeof(Half), stream, d,
                     a, b, how_a, how_b);
}

}  // namespace mnist::MNIST_TARGET
