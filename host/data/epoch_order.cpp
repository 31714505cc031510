// Fisher-Yates shuffle of an epoch, each swap drawn from its own Philox counter.
//
// A word below `bound` without bias: D. Lemire, "Fast random integer generation in an interval",
// ACM TOMACS 2019: the high half of word * bound, rejecting the few low halves that would make some
// values likelier. The four words of a block serve the first try and three retries; should all four
// be rejected (never seen: probability below count * 2^-32 each), the next block of this index is
// drawn.
#include "host/data/epoch_order.h"

#include <cstddef>
#include <numeric>
#include <utility>

#include "kernels/philox.h"

namespace mnist {
namespace {

uint32_t bounded(uint32_t bound, uint64_t index, uint64_t seed, uint64_t epoch) {
  const uint32_t threshold = (0u - bound) % bound;  // 2^32 mod bound
  for (uint64_t block = 0;; ++block) {
    const PhiloxWords words = philox(seed, kShuffleStream, index | block << 32, epoch);
    for (const uint32_t word : {words.x, words.y, words.z, words.w}) {
      const uint64_t product = uint64_t(word) * bound;
      if (uint32_t(product) >= threshold) return uint32_t(product >> 32);
    }
  }
}

}  // namespace

void make_epoch_order(std::vector<int32_t>& order, int64_t count, uint64_t seed, int64_t epoch,
                      bool shuffle) {
  order.resize(size_t(count));
  std::iota(order.begin(), order.end(), 0);
  if (shuffle)
    for (uint32_t i = uint32_t(count); i-- > 1;)
      std::swap(order[i], order[bounded(i + 1, i, seed, uint64_t(epoch))]);
}

std::vector<int32_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch, bool shuffle) {
  std::vector<int32_t> order;
  make_epoch_order(order, count, seed, epoch, shuffle);
  return order;
}

const std::vector<int32_t>& EpochOrders::get(int64_t epoch) {
  if (made_.valid()) made_.get();
  if (next_epoch_ != epoch) make_epoch_order(next_, count_, seed_, epoch, shuffle_);
  std::swap(current_, next_);
  next_epoch_ = epoch + 1;
  // The default policy does without a thread where there is none.
  made_ = std::async([this] { make_epoch_order(next_, count_, seed_, next_epoch_, shuffle_); });
  return current_;
}

}  // namespace mnist
