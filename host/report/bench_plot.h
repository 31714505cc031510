// A horizontal bar chart of times.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "host/report/svg.h"

namespace mnist {

struct PlotBar {
  std::string name, detail;
  double native_us = 0;
  std::optional<double> cudnn_us;
};

struct Plot {
  std::string title, subtitle;
  std::vector<PlotBar> bars;  // at least one; times above 0
};

// The axis is logarithmic, in microseconds, over whole decades.
Figure bench_chart(const Plot& plot);

}  // namespace mnist
