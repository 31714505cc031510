// The layers that cuDNN and cuBLAS compute, one function each. `shape.n` is the largest batch,
// planned for at once; other batches are planned for when they first come.
#pragma once

#include <memory>
#include <string>

#include "host/engine/backends/backend.h"
#include "host/engine/backends/cudnn/module.h"
#include "host/engine/backends/layer_shapes.h"
#include "kernels/shapes.h"

namespace mnist::MNIST_TARGET::cudnn {

// Handles of the libraries, shared by all ops.
class Context;
std::shared_ptr<Context> make_context(const CudnnOptions& options);

std::unique_ptr<LayerOp> make_convolution(std::shared_ptr<Context> context, std::string name,
                                          const ConvShape& shape, const ParameterOffsets& offsets,
                                          bool relu, Mode mode);
std::unique_ptr<LayerOp> make_max_pooling(std::shared_ptr<Context> context, std::string name,
                                          const PoolShape& shape, Mode mode);
std::unique_ptr<LayerOp> make_dense(std::shared_ptr<Context> context, std::string name,
                                    const DenseShape& shape, const ParameterOffsets& offsets,
                                    bool relu, Mode mode);

void softmax(Context& context, float* probabilities, const float* logits, int n, int classes,
             cudaStream_t stream);

}  // namespace mnist::MNIST_TARGET::cudnn
