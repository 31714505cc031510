// The order in which an epoch visits the training samples.
#pragma once

#include <cstdint>
#include <vector>

namespace mnist {

// A permutation of 0..count-1: Fisher-Yates driven by Philox4x32-10 with key (seed, kShuffleStream)
// and counter (index, epoch). A function of its arguments alone, so that a resumed run shuffles
// alike.
std::vector<int32_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch, bool shuffle);

}  // namespace mnist
