// The order in which an epoch visits the training samples.
#pragma once

#include <cstdint>
#include <future>
#include <vector>

namespace mnist {

// A permutation of 0..count-1: Fisher-Yates driven by Philox4x32-10 with key (seed, kShuffleStream)
// and counter (index, epoch). A function of its arguments alone, so that a resumed run shuffles
// alike.
std::vector<int32_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch, bool shuffle);
// The same in a vector that is reused.
void make_epoch_order(std::vector<int32_t>& order, int64_t count, uint64_t seed, int64_t epoch,
                      bool shuffle);

// The orders of epoch after epoch, each made while the one before is in use: by a thread, or, where
// none can be started, when it is asked for.
class EpochOrders {
 public:
  EpochOrders(int64_t count, uint64_t seed, bool shuffle)
      : count_(count), seed_(seed), shuffle_(shuffle) {}
  EpochOrders(const EpochOrders&) = delete;
  EpochOrders& operator=(const EpochOrders&) = delete;

  // Valid until the next call.
  const std::vector<int32_t>& get(int64_t epoch);

 private:
  const int64_t count_;
  const uint64_t seed_;
  const bool shuffle_;
  std::vector<int32_t> current_, next_;
  int64_t next_epoch_ = -1;
  std::future<void> made_;  // next_
};

}  // namespace mnist
