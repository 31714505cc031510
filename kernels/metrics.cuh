// How a batch is added to MetricSums.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "kernels/shapes.h"
#include "kernels/target.h"

namespace mnist::MNIST_TARGET {

// What a batch, or a part of it, adds.
struct XentPartial {
  double loss;
  int correct;
};

// What add_batch goes on from, to be asked for early: only it and the host change any of this.
__device__ inline MetricSums metrics_before(const MetricSums& metrics) {
  MetricSums sums{};
  sums.loss = metrics.loss;
  sums.correct = metrics.correct;
  sums.samples = metrics.samples;
  sums.first_nonfinite = metrics.first_nonfinite;
  sums.batches = metrics.batches;
  sums.reports = metrics.reports;
  return sums;
}

// Adds a batch of `rows` samples to `sums`, which metrics_before gave, stores it, and reports it if
// a report is due. By one thread, when no block needs the ticket any more.
__device__ inline void add_batch(MetricSums* metrics, MetricSums sums, const XentPartial& batch,
                                 int rows) {
  sums.loss += batch.loss;
  sums.correct += batch.correct;
  sums.samples += rows;
  sums.batches += 1;
  if (!std::isfinite(batch.loss) && sums.first_nonfinite == 0) sums.first_nonfinite = sums.batches;
  metrics->loss = sums.loss;
  metrics->correct = sums.correct;
  metrics->samples = sums.samples;
  metrics->first_nonfinite = sums.first_nonfinite;
  metrics->batches = sums.batches;
  metrics->ticket = 0;
  if (sums.reports != nullptr && sums.batches % kReportBatches == 0) {
    // Others may be adding to it; not from a cache that has not seen them.
    sums.saturated = *static_cast<const volatile unsigned long long*>(&metrics->saturated);
    sums.reports[(sums.batches / kReportBatches - 1) % kReports] = sums;
  }
}

}  // namespace mnist::MNIST_TARGET
