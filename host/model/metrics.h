// Loss and accuracy over the samples of an epoch.
#pragma once

#include <cstdint>

namespace mnist {

// Sums over samples; `loss()` and `accuracy()` are Keras' running means.
struct Metrics {
  double loss_sum = 0;
  int64_t correct = 0;
  int64_t samples = 0;
  int64_t batches = 0;
  int64_t first_nonfinite = 0;  // batch (from 1) whose loss was the first not finite; 0: none
  int64_t saturated = 0;        // numbers that were beyond FP16's range and became its largest

  // 0 if no samples.
  double loss() const { return samples == 0 ? 0 : loss_sum / double(samples); }
  double accuracy() const { return samples == 0 ? 0 : double(correct) / double(samples); }
};

}  // namespace mnist
