// What the separately loaded module cuda-mnist-cudnn.so offers: the layers that cuDNN 9 and cuBLAS
// have, as LayerOps. Both sides of the loader (host/engine/backends/cudnn/loader.h) include this
// file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "host/engine/backends/backend.h"
#include "host/model/model.h"

namespace mnist::MNIST_TARGET {

// Without fp16 all arithmetic is that of float32: tensor cores, which round operands to TF32, are
// never used.
struct CudnnOptions {
  // The caller's current device, which the module's own copy of the CUDA runtime must be told.
  int device = 0;
  // Convolution algorithms by cuDNN's timing search: for benchmarks. Otherwise by its heuristic,
  // which chooses the same in every run, so that a run repeats to the bit. Either way only
  // deterministic algorithms are taken.
  bool timed_search = false;
  // Convolutions and products of operands rounded to FP16, summed in float32, on tensor cores where
  // the libraries have them. Results of convolutions are rounded to FP16 too, since cuDNN gives no
  // others. Tensors between the layers remain float32.
  bool fp16 = false;
};

class CudnnLibrary {
 public:
  virtual ~CudnnLibrary() = default;
  // Layer number `layer` with all that it needs for batches of up to max_batch; null for kinds that
  // the libraries do not cover (dropout) and for layers that change nothing. Ops may outlive the
  // library object. Throws cudnn::CudnnError, cudnn::CublasError, CudaError or OutOfMemory.
  virtual std::unique_ptr<LayerOp> layer_op(const Model& model, int layer, int max_batch,
                                            Mode mode) = 0;
  // probabilities [n,classes] = softmax(logits).
  virtual void softmax(float* probabilities, const float* logits, int n, int classes,
                       cudaStream_t stream) = 0;
};

struct CudnnModule {
  uint64_t abi;               // kCudnnModuleAbi of the module's build: read before anything else
  std::string (*versions)();  // "cuDNN 9.19.0, cuBLAS 13.1.0"
  std::unique_ptr<CudnnLibrary> (*open)(const CudnnOptions& options);
};

// Raise the first number when an interface above or in backend.h changes.
inline constexpr uint64_t kCudnnModuleAbi =
    ((uint64_t{3} << 12 | sizeof(Model)) << 12 | sizeof(Layer)) << 12 | sizeof(LayerOp);

inline constexpr const char* kCudnnModuleFile = "cuda-mnist-cudnn.so";
inline constexpr const char* kCudnnModuleSymbol = "cuda_mnist_cudnn_module";

}  // namespace mnist::MNIST_TARGET
