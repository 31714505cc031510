// A horizontal bar chart of times as SVG text.
#pragma once

#include <optional>
#include <string>
#include <vector>

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
std::string draw_svg(const Plot& plot);

}  // namespace mnist
