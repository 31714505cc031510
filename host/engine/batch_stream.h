// Brings the batches of an epoch to the device while earlier ones are trained on.
//
// The device holds a ring of kChunks x kChunkSteps batches. For each chunk the host gathers rows
// into a pinned buffer, the copy stream carries them over, and events keep both from overtaking the
// compute stream. Batch b of an epoch lies at ring batch b % (kChunks * kChunkSteps).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "host/engine/engine.h"

namespace mnist::MNIST_TARGET {

class BatchStream {
 public:
  static constexpr int kChunks = 4;
  static constexpr int kChunkSteps = 4;

  // `samples` stay alive as long as the stream.
  BatchStream(const Samples& samples, int batch_size, int pixels);

  // Gathers batches [begin,end), all of one chunk, in the order given, and sends them; work put
  // into `compute` afterwards finds them in the ring. Waits while the chunk's place is still in
  // use.
  void send(std::span<const int32_t> order, int64_t begin, int64_t end, cudaStream_t compute);
  // To be called once the work that reads these batches has been put into `compute`.
  void release(int64_t begin, cudaStream_t compute);

  const uint8_t* images() const { return images_.data(); }  // [rows(),pixels]
  const uint8_t* labels() const { return labels_.data(); }  // [rows()]
  int rows() const { return kChunks * kChunkSteps * batch_size_; }

 private:
  static int chunk(int64_t batch) { return int(batch / kChunkSteps % kChunks); }

  const Samples samples_;
  const int batch_size_;
  const int pixels_;
  Stream copy_;
  DeviceBuffer<uint8_t> images_, labels_;
  PinnedBuffer<uint8_t> host_images_, host_labels_;
  Event sent_[kChunks];      // the pinned chunk has been read
  Event consumed_[kChunks];  // the device's chunk has been read
};

}  // namespace mnist::MNIST_TARGET
