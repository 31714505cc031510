// Metrics as the host and as the kernels keep them.
#pragma once

#include "host/model/metrics.h"
#include "kernels/shapes.h"

namespace mnist {

inline Metrics to_metrics(const MetricSums& sums) {
  return {.loss_sum = sums.loss,
          .correct = sums.correct,
          .samples = sums.samples,
          .batches = sums.batches,
          .first_nonfinite = sums.first_nonfinite,
          .saturated = int64_t(sums.saturated)};
}

inline MetricSums to_sums(const Metrics& metrics) {
  return {.loss = metrics.loss_sum,
          .correct = metrics.correct,
          .samples = metrics.samples,
          .first_nonfinite = metrics.first_nonfinite,
          .batches = metrics.batches,
          .ticket = 0,
          .reports = nullptr,
          .saturated = static_cast<unsigned long long>(metrics.saturated)};
}

}  // namespace mnist
