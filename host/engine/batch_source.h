// Where a training step finds its batches: streamed from the host while earlier ones are trained on
// (streamed_batches.cpp), or gathered from a training set that is on the device
// (resident_batches.cpp).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <span>

#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

// The rows that `normalize` gathers a batch from, in device memory; the addresses stay the same as
// long as the source lives, so that a graph may hold them.
struct BatchRows {
  const uint8_t* images;       // [count,pixels]
  const uint8_t* labels;       // [count]
  const int32_t* permutation;  // [samples of an epoch]; null: batches follow each other in a ring
  int count;
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual BatchRows rows() const = 0;

  // Before the first batch of an epoch. `order` is a permutation of the training set and stays
  // alive and unchanged until the epoch's batches have been trained on.
  virtual void begin_epoch(std::span<const int32_t> order, cudaStream_t compute) = 0;
  // Work put into `compute` afterwards finds batches [begin,end), all of one chunk, in rows(). May
  // wait until the device has read an earlier chunk.
  virtual void provide(int64_t begin, int64_t end, cudaStream_t compute) = 0;
  // To be called once the work that reads the chunk has been put into `compute`.
  virtual void release(int64_t begin, cudaStream_t compute) = 0;
};

// `samples` stay alive and unchanged as long as the source.
std::unique_ptr<BatchSource> make_streamed_batches(const Samples& samples, int batch_size,
                                                   int pixels);
std::unique_ptr<BatchSource> make_resident_batches(const Samples& samples, int pixels,
                                                   cudaStream_t compute);

// A chunk is what a streamed source sends at once, and kChunks of them are on their way at most.
// Batch b of an epoch is in chunk b / kChunkBatches.
inline constexpr int kChunks = 4;
inline constexpr int kChunkBatches = 4;

}  // namespace mnist::MNIST_TARGET
