// The first batch, before there is a step that could bring it. A block of two warps per row.
#include "kernels/check.h"
#include "kernels/fused/fused.h"
#include "kernels/fused/gather.cuh"
#include "kernels/launch.h"

namespace mnist::MNIST_TARGET {

__global__ void __launch_bounds__(GatheredRow::kWarps * 32, 1)
    fused_gather_kernel(FusedBatch to, FusedSource from, const StepState* state, int batch,
                        int ahead) {
  GatheredRow row;
  row.load(from, *state, batch, ahead, int(blockIdx.x));
  row.store(to, int(blockIdx.x));
}

void fused_gather(const FusedBatch& to, const FusedSource& from, const FusedMemory& memory,
                  int batch, int ahead, cudaStream_t stream) {
  CHECK(batch > 0 && ahead >= 0);
  launch(fused_gather_kernel, dim3(unsigned(batch)), dim3(kWarpThreads, GatheredRow::kWarps),
         stream, to, from, memory.state, batch, ahead);
}

}  // namespace mnist::MNIST_TARGET
