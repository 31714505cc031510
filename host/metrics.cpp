#include "host/engine.h"

namespace mnist {

double Metrics::loss() const {
  return samples == 0 ? 0 : loss_sum / double(samples);
}
double Metrics::accuracy() const {
  return samples == 0 ? 0 : double(correct) / double(samples);
}

}  // namespace mnist
