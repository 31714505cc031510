// From the hidden layer to the loss and back, with Adam for dense1's filter. Below, s = kLossScale.
//   logits = h w2 + b2                        softmax, loss, hits
//   dlogits = s (softmax - onehot) / rows     as FP16
//   dh = dlogits w2^T where h > 0             as FP16
//   da2 = dh w1^T where a2 > 0                as FP16
//   dw1 = a2^T dh, db1 = 1^T dh,  dw2 = h^T dlogits, db2 = 1^T dlogits
//
// All that connects the rows of a batch is cheap: each block computes dh of every row by itself,
// which spares the hand-off after it. A warp has 16 rows and keeps them in registers:
//
//          h  ->  logits  ->  dlogits  ->  dh  ->  da2 [16 rows][16 inputs]
//   lane     A         sums         A     sums = A     sums       the layouts of mma fit together
//
// Then dh goes to shared memory, and, after the one barrier that anybody waits for, warp w has the
// hidden units 16w to 16w+15 of the block's product over the rows,
//
//   left^T [16][rows]  right [rows][128]     block 0 to 99: a2 of the inputs 16b .. 16b+15, dh: dw1
//                                            block 100:     ones, dh: db1
//                                            block 101:     dlogits, h: dw2; and the loss
//
// Blocks 0 to 99 update their rows of the filter; what the other two have is in head_sums, for
// update_filters, since every block reads w2. Everything but h and the update's constants is
// brought before the wait: w1 into registers as B of da2, w, m, v into those of the lanes that
// update them.
#include "kernels/adam.cuh"
#include "kernels/common.cuh"
#include "kernels/exp_log.cuh"
#include "kernels/fused/fused.h"
#include "kernels/fused/half.cuh"
#include "kernels/fused/logits.cuh"
#include "kernels/fused/packed.cuh"
#include "kernels/lanes/lanes.cuh"
#include "kernels/launch.h"
#include "kernels/metrics.cuh"

extern __shared__ __align__(16) unsigned char dynamic_smem[];

namespace mnist::MNIST_TARGET {

struct HeadBlock {
  static constexpr int kWarps = 8;
  static constexpr int kInputs = 16;                          // rows of the filter
  static constexpr int kSlices = fused::kFlat / kInputs;      // 100
  static constexpr int kBias = kSlices, kLoss = kSlices + 1;  // the other two blocks
  static constexpr int kBlocks = kSlices + 2;

  // Shared memory. Left: halves [2][128][8], the second half of the 16 columns 64 bytes further on
  // than it would be, so that a quad's lanes find theirs in different banks. Right: [128][128], see
  // right_piece(). Losses: of each warp.
  static constexpr int kLeftHalf = kFusedBatch * 8 + 32;
  static constexpr int kFilter = 0;
  static constexpr int kLeft = kFilter + Dense2Filter::kBytes;
  static constexpr int kRight = kLeft + 2 * kLeftHalf * int(sizeof(Half));
  static constexpr int kLosses = kRight + kFusedBatch * fused::kHidden * int(sizeof(Half));
  static constexpr int kBytes = kLosses + kWarps * int(sizeof(XentPartial));
};
static_assert(HeadBlock::kWarps * 16 == kFusedBatch && HeadBlock::kWarps * 16 == fused::kHidden);
static_assert(HeadBlock::kRight % 16 == 0 && HeadBlock::kLosses % 8 == 0);
static_assert(HeadBlock::kBytes <= 48 * 1024);

namespace head_detail {

__device__ __forceinline__ Half* left_piece(int row, int half) {
  return reinterpret_cast<Half*>(dynamic_smem + HeadBlock::kLeft) + half * HeadBlock::kLeftHalf +
         row * 8;
}
// Eight hidden units of a row. Eight rows of one piece, which ldmatrix reads, and four pieces of an
// even row beside those of the odd row after it, which lanes write, are in different banks.
__device__ __forceinline__ Half* right_piece(int row, int piece) {
  const int slot = piece ^ (row % 2 * 4 + row / 2 % 4);
  return reinterpret_cast<Half*>(dynamic_smem + HeadBlock::kRight) + row * fused::kHidden +
         slot * 8;
}
// The input in column n of da2: a lane, which has the columns 2t, 2t+1, 2t+8 and 2t+9 of the sums,
// gets four neighbours.
__device__ constexpr int input_of(int n) {
  return n % 8 / 2 * 4 + n / 8 * 2 + n % 2;
}

// What a lane knows of its rows: those of index i = 0, 1 of Sums::row(lane, 2i).
struct RowOfLane {
  bool real;
  int label;
};

}  // namespace head_detail

__global__ void __launch_bounds__(HeadBlock::kWarps * 32, 1)
    fused_head_kernel(FusedMemory memory, const uint8_t* labels, int batch,
                      AdamConstants constants) {
  using namespace head_detail;
  using fused::kClasses, fused::kFlat, fused::kHidden;
  using Block = HeadBlock;
  const int warp = warp_index(), block = int(blockIdx.x);
  const bool updates = block < Block::kSlices;
  const bool has_loss = block == Block::kLoss;
  const int row_begin = warp * 16, input_begin = block * Block::kInputs;
  const int tiles = ceil_div(batch, 16);
  const bool has_rows = warp < tiles;
  const Dense2Filter w2(dynamic_smem + Block::kFilter);

  // ---- before the wait --------------------------------------------------------------------------
  w2.load(memory.dense2_w);
  FragB<16> w1[kHidden / 32][2];
  WarpArray<float2> w[4], m[4], v[4];
  if (updates) {
    if (has_rows)
      warp_for_each([&](int lane) INLINED {
        const int row = row_begin + lane % 16, half = lane / 16;
        cp_async_16(left_piece(row, half), memory.a2 + row * kFlat + input_begin + half * 8);
      });
    unrolled<kHidden / 32>([&](auto group) INLINED {
      load_b_spread(w1[group], [&](int n) INLINED {
        return memory.dense1_w + (input_begin + input_of(n)) * kHidden + group * 32;
      });
    });
  }
  // Of the product of left and right: the two of index 2r and 2r+1 of the lane's sums.
  const auto offset = [&](int lane, int r) INLINED {
    return (input_begin + Sums<16>::row(lane, 2 * r)) * kHidden + warp * 16 +
           Sums<16>::column(lane, 2 * r);
  };
  float* const all_w = memory.weights + memory.at.dense1_w;
  float* const all_m = memory.m + memory.at.dense1_w;
  float* const all_v = memory.v + memory.at.dense1_w;
  if (updates)
    warp_for_each([&](int lane) INLINED {
      unrolled<4>([&](auto r) INLINED {
        w[r].own(lane) = *reinterpret_cast<const float2*>(all_w + offset(lane, r));
        m[r].own(lane) = *reinterpret_cast<const float2*>(all_m + offset(lane, r));
        v[r].own(lane) = *reinterpret_cast<const float2*>(all_v + offset(lane, r));
      });
    });
  if (block == Block::kBias && has_rows)
    warp_for_each([&](int lane) INLINED {
      const uint32_t ones = 0x3c003c00;
      *reinterpret_cast<uint4*>(left_piece(row_begin + lane % 16, lane / 16)) =
          make_uint4(ones, ones, ones, ones);
    });
  cp_async_commit();
  const int rows = batch_rows(*memory.state, batch);
  WarpArray<RowOfLane> row_of[2];
  Sums<16> z;
  if (has_rows) {
    load_bias(z, memory.weights + memory.at.dense2_b);
    warp_for_each([&](int lane) INLINED {
      unrolled<2>([&](auto i) INLINED {
        const int row = row_begin + z.row(lane, 2 * i);
        row_of[i].own(lane) = {row < rows, row < batch ? labels[row] : 0};
      });
    });
  }
  cp_async_wait<0>();
  __syncthreads();  // every warp brought a part of w2
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();

  // ---- by rows ----------------------------------------------------------------------------------
  unsigned count = 0;
  if (has_rows) {
    HiddenRows h;
    load_hidden(h, memory.h, row_begin);
    add_products(z, h, w2);

    WarpArray<float> maximum[2], sum[2], label_logit[2];
    WarpArray<int> best[2];
    warp_for_each([&](int lane) INLINED {
      unrolled<2>([&](auto i) INLINED {
        float most = fmaxf(z.at(lane, 2 * i), z.at(lane, 2 * i + 1));
        if (z.column(lane, 4) < kClasses)
          most = fmaxf(most, fmaxf(z.at(lane, 4 + 2 * i), z.at(lane, 5 + 2 * i)));
        maximum[i].own(lane) = most;
      });
    });
    const auto larger = [](float a, float b) INLINED { return fmaxf(a, b); };
    quad_reduce(maximum[0], larger);
    quad_reduce(maximum[1], larger);
    if (has_loss) {
      warp_for_each([&](int lane) INLINED {
        unrolled<2>([&](auto i) INLINED {
          float logit = -INFINITY;
          int first = kClasses;
          unrolled<4>([&](auto j) INLINED {
            const int index = j / 2 * 4 + 2 * i + j % 2, column = z.column(lane, index);
            const float value = z.at(lane, index);
            if (column == row_of[i].own(lane).label) logit = value;
            if (column < first && value == maximum[i].own(lane)) first = column;
          });
          label_logit[i].own(lane) = logit;
          best[i].own(lane) = first;
        });
      });
      unrolled<2>([&](auto i) INLINED {
        quad_reduce(label_logit[i], larger);
        quad_reduce(best[i], [](int a, int b) INLINED { return min(a, b); });
      });
    }
    warp_for_each([&](int lane) INLINED {
      unrolled<2>([&](auto i) INLINED {
        const float most = maximum[i].own(lane);
        float total = 0;
        unrolled<4>([&](auto j) INLINED {
          const int index = j / 2 * 4 + 2 * i + j % 2;
          if (z.column(lane, index) >= kClasses) return;
          z.at(lane, index) = exponential(z.at(lane, index) - most);
          total += z.at(lane, index);
        });
        sum[i].own(lane) = total;
      });
    });
    const auto plus = [](float a, float b) INLINED { return a + b; };
    quad_reduce(sum[0], plus);
    quad_reduce(sum[1], plus);

    FragA dlogits;
    const float scale = kLossScale / float(rows);
    warp_for_each([&](int lane) INLINED {
      float share[2];
      unrolled<2>([&](auto i) INLINED { share[i] = 1.0f / sum[i].own(lane); });
      unrolled<4>([&](auto r) INLINED {
        const RowOfLane& row = row_of[r % 2].own(lane);
        float gradient[2];
        unrolled<2>([&](auto j) INLINED {
          const int column = z.column(lane, 2 * r + j);
          const float target = column == row.label ? 1.0f : 0.0f;
          const float value = fmaf(z.at(lane, 2 * r + j), share[r % 2], -target) * scale;
          gradient[j] = row.real && column < kClasses ? value : 0.0f;
        });
        dlogits.set(lane, r, saturated_half2(gradient[0], gradient[1], count));
      });
    });
    if (has_loss) {
      WarpArray<double> loss;
      WarpArray<int> correct;
      warp_for_each([&](int lane) INLINED {
        loss.own(lane) = 0;
        correct.own(lane) = 0;
        if (lane % 4 != 0) return;  // the other lanes of a quad know nothing else
        unrolled<2>([&](auto i) INLINED {
          const RowOfLane& row = row_of[i].own(lane);
          if (!row.real) return;
          // A label that is not a class makes the loss a NaN, which the caller sees.
          const float logit = row.label < kClasses ? label_logit[i].own(lane) : NAN;
          loss.own(lane) += double(logarithm(sum[i].own(lane)) + (maximum[i].own(lane) - logit));
          correct.own(lane) += best[i].own(lane) == row.label;
        });
      });
      const XentPartial partial = {warp_sum(loss), warp_sum(correct)};
      warp_for_each([&](int lane) INLINED {
        if (lane == 0)
          reinterpret_cast<XentPartial*>(dynamic_smem + Block::kLosses)[warp] = partial;
        unrolled<4>([&](auto r) INLINED {
          const int row = row_begin + lane / 4 + r % 2 * 8;
          *reinterpret_cast<uint32_t*>(left_piece(row, r / 2) + lane % 4 * 2) =
              dlogits.pair(lane, r);
        });
      });
    }
    // In place p of a row's hidden units is spread(p) of its group of 32: h has that order, w2
    // gives it to dh.
    FragA dh[kHidden / 32][2];
    unrolled<kHidden / 32>([&](auto group) INLINED {
      unrolled<2>([&](auto s) INLINED {
        FragB<16> b;
        w2.load_columns(b, group * 32 + s * 16);
        Sums<16> d;
        mma(d, dlogits, b);
        zero_where_closed(d, h[group][s]);
        saturated_operand(dh[group][s], d, count);
      });
      const auto piece = [&](int row, int i)
                             INLINED { return right_piece(row_begin + row, group * 4 + i); };
      if (has_loss)
        store_spread(piece, h[group]);
      else
        store_spread(piece, dh[group]);
    });
    if (!has_loss) count = 0;  // all blocks round the same numbers up to here
    if (updates) {
      Sums<16> even, odd;
      unrolled<kHidden / 32>([&](auto group) INLINED {
        mma(even, dh[group][0], w1[group][0]);
        mma(odd, dh[group][1], w1[group][1]);
      });
      add(even, odd);
      warp_for_each([&](int lane) INLINED {
        unrolled<2>([&](auto i) INLINED {
          const int row = row_begin + even.row(lane, 2 * i), input = lane % 4 * 4;
          const uint2 gate =
              *reinterpret_cast<const uint2*>(left_piece(row, input / 8) + input % 8);
          const auto gated_at = [&](int index, uint32_t a2)
                                    INLINED { return a2 != 0 ? even.at(lane, index) : 0.0f; };
          uint2 d;
          d.x = saturated_half2(gated_at(2 * i, gate.x & 0x7fff),
                                gated_at(2 * i + 1, gate.x & 0x7fff0000), count);
          d.y = saturated_half2(gated_at(4 + 2 * i, gate.y & 0x7fff),
                                gated_at(5 + 2 * i, gate.y & 0x7fff0000), count);
          *reinterpret_cast<uint2*>(memory.da2 + row * kFlat + input_begin + input) = d;
        });
      });
    }
  }
  __syncthreads();  // right is there, and the losses

  // ---- by hidden units --------------------------------------------------------------------------
  Sums<16> sums[2];
  Sums<8> dlogit_sums;
  FragB<8> ones;
  warp_for_each([&](int lane) INLINED {
    unrolled<2>([&](auto r) INLINED { ones.set(lane, r, 0x3c003c00); });
  });
  unrolled<kFusedBatch / 16>([&](auto tile) INLINED {
    if (tile >= tiles) return;
    FragA a;
    FragB<16> b;
    load_a_col_major(a, [&](int lane) INLINED {
      return left_piece(tile * 16 + lane % 8 + lane / 16 * 8, lane / 8 % 2);
    });
    load_b_row_major(b, [&](int lane) INLINED {
      return right_piece(tile * 16 + lane % 16, warp * 2 + lane / 16);
    });
    mma(sums[tile % 2], a, b);
    if (has_loss) mma(dlogit_sums, a, ones);
  });
  add(sums[0], sums[1]);
  const Sums<16>& total = sums[0];

  if (updates) {
    const float alpha = adam_alpha(*memory.state);
    warp_for_each([&](int lane) INLINED {
      unrolled<4>([&](auto r) INLINED {
        float2 &wr = w[r].own(lane), &mr = m[r].own(lane), &vr = v[r].own(lane);
        adam_update(wr.x, mr.x, vr.x, total.at(lane, 2 * r) * (1 / kLossScale), alpha, constants);
        adam_update(wr.y, mr.y, vr.y, total.at(lane, 2 * r + 1) * (1 / kLossScale), alpha,
                    constants);
        const int at = offset(lane, r);
        *reinterpret_cast<float2*>(all_w + at) = wr;
        *reinterpret_cast<float2*>(all_m + at) = mr;
        *reinterpret_cast<float2*>(all_v + at) = vr;
        pack_dense1(memory, at, wr.x, wr.y, count);
      });
    });
    add_saturated(*memory.metrics, count);
    return;
  }
  add_saturated(*memory.metrics, count);
  float* const bias1 = memory.head_sums;
  float* const filter2 = bias1 + kHidden;
  float* const bias2 = filter2 + kHidden * kClasses;
  warp_for_each([&](int lane) INLINED {
    unrolled<Sums<16>::kCount>([&](auto i) INLINED {
      const int row = total.row(lane, i), unit = warp * 16 + total.column(lane, i);
      if (!has_loss && row == 0) bias1[unit] = total.at(lane, i);
      if (has_loss && row < kClasses) filter2[unit * kClasses + row] = total.at(lane, i);
    });
    if (!has_loss || warp != 0) return;
    unrolled<Sums<8>::kCount>([&](auto i) INLINED {
      const int row = dlogit_sums.row(lane, i);
      if (dlogit_sums.column(lane, i) == 0 && row < kClasses) bias2[row] = dlogit_sums.at(lane, i);
    });
    if (lane != 0) return;
    const auto* losses = reinterpret_cast<const XentPartial*>(dynamic_smem + Block::kLosses);
    XentPartial all = {0, 0};
    for (int i = 0; i < tiles; ++i) {
      all.loss += losses[i].loss;
      all.correct += losses[i].correct;
    }
    add_batch(memory.metrics, metrics_before(*memory.metrics), all, rows);
  });
}

void fused_head(const FusedMemory& memory, const uint8_t* labels, int batch, const AdamParams& adam,
                cudaStream_t stream) {
  CHECK(batch > 0 && batch <= kFusedBatch);
  CHECK(labels != nullptr);
  launch_dependent(fused_head_kernel, dim3(HeadBlock::kBlocks),
                   dim3(kWarpThreads, HeadBlock::kWarps), HeadBlock::kBytes, stream, memory, labels,
                   batch, adam_constants(adam));
}

// logits [n,10] of h, for evaluation: a warp has 16 rows, a block 128.
__global__ void __launch_bounds__(HeadBlock::kWarps * 32, 1)
    fused_logits_kernel(float* logits, FusedMemory memory, int n) {
  const Dense2Filter w2(dynamic_smem);
  const int row_begin = (int(blockIdx.x) * HeadBlock::kWarps + warp_index()) * 16;
  w2.load(memory.dense2_w);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();  // every warp brought a part of w2
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  if (row_begin >= n) return;
  Sums<16> z;
  HiddenRows h;
  load_bias(z, memory.weights + memory.at.dense2_b);
  load_hidden(h, memory.h, row_begin);
  add_products(z, h, w2);
  warp_for_each([&](int lane) INLINED {
    unrolled<Sums<16>::kCount>([&](auto i) INLINED {
      const int row = row_begin + z.row(lane, i), column = z.column(lane, i);
      if (row < n && column < fused::kClasses)
        logits[int64_t{row} * fused::kClasses + column] = z.at(lane, i);
    });
  });
}

void fused_logits(float* logits, const FusedMemory& memory, int n, cudaStream_t stream) {
  CHECK(n > 0 && logits != nullptr);
  launch_dependent(fused_logits_kernel, dim3(unsigned(ceil_div(n, HeadBlock::kWarps * 16))),
                   dim3(kWarpThreads, HeadBlock::kWarps), Dense2Filter::kBytes, stream, logits,
                   memory, n);
}

}  // namespace mnist::MNIST_TARGET
