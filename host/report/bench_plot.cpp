#include "host/report/bench_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mnist {
namespace {

constexpr Paint kNative = Paint::kFirst, kRival = Paint::kSecond;
constexpr double kAxis = 460, kValues = 90;  // widths of the bars, and of the times after them
constexpr double kLetter = 7.4;              // pixels a letter, at most, on average
constexpr double kHead = 94, kFoot = 40, kBar = 11, kGap = 12;

// 0.5 us, 20 us, 3 ms, 35 s: three digits.
std::string duration(double us) {
  const auto digits = [](double value) {
    return fmt::format("{:.{}f}", value, value < 10 ? 2 : value < 100 ? 1 : 0);
  };
  if (us < 1e3) return digits(us) + " µs";
  if (us < 1e6) return digits(us * 1e-3) + " ms";
  return digits(us * 1e-6) + " s";
}

std::string decade(int exponent) {
  const char* const units[] = {"µs", "ms", "s"};
  const int unit = std::clamp(exponent < 0 ? 0 : exponent / 3, 0, 2);
  return fmt::format("{:g} {}", std::pow(10.0, exponent - 3 * unit), units[unit]);
}

// Decades from below the shortest time to above the longest.
class Axis {
 public:
  explicit Axis(const std::vector<PlotBar>& bars) {
    double least = bars.front().native_us, most = least;
    for (const PlotBar& bar : bars)
      for (const double time : {bar.native_us, bar.cudnn_us.value_or(bar.native_us)}) {
        least = std::min(least, time);
        most = std::max(most, time);
      }
    // Even the shortest time has a bar.
    first_ = int(std::floor(std::log10(least * 0.8)));
    last_ = std::max(first_ + 1, int(std::ceil(std::log10(most))));
  }
  int first() const { return first_; }
  int last() const { return last_; }
  double length(double us) const { return kAxis * (std::log10(us) - first_) / (last_ - first_); }

 private:
  int first_, last_;
};

}  // namespace

Figure bench_chart(const Plot& plot) {
  const bool two =
      std::any_of(plot.bars.begin(), plot.bars.end(), [](const PlotBar& b) { return b.cudnn_us; });
  const double row = (two ? 2 : 1) * kBar + kGap;
  const double bottom = kHead + row * double(plot.bars.size());
  const Axis axis(plot.bars);
  size_t name = 0, detail = 0;
  for (const PlotBar& bar : plot.bars) {
    name = std::max(name, bar.name.size());
    detail = std::max(detail, bar.detail.size());
  }
  const double details = kLetter * double(name + 1);
  const double left = details + kLetter * double(detail + 1);
  const double width = std::max(left + kAxis + kValues, kLetter * double(plot.subtitle.size()));

  Canvas canvas;
  canvas.text(0, 14, plot.title, 18, Paint::kText, Anchor::kStart, true);
  canvas.text(0, 35, plot.subtitle, 12, Paint::kMuted);
  canvas.box(0, 50, 12, 12, kNative);
  canvas.text(18, 60, "native");
  if (two) {
    canvas.box(80, 50, 12, 12, kRival);
    canvas.text(98, 60, "cuDNN, cuBLAS");
  }
  canvas.text(left + kAxis / 2, bottom + 38, "median time, logarithmic; shorter is better", 12,
              Paint::kMuted, Anchor::kMiddle);

  for (int exponent = axis.first(); exponent <= axis.last(); ++exponent) {
    const double x = left + axis.length(std::pow(10.0, exponent));
    canvas.line(
        fmt::format("M{} {}V{}", coordinate(x), coordinate(kHead - 6), coordinate(bottom + 2)),
        {Paint::kGrid});
    for (const double y : {bottom + 17, kHead - 12})
      canvas.text(x, y, decade(exponent), 12, Paint::kMuted, Anchor::kMiddle);
  }

  double y = kHead;
  for (const PlotBar& bar : plot.bars) {
    const auto draw = [&](double top, double us, Paint paint) {
      const double length = axis.length(us);
      canvas.box(left, top, length, kBar - 1, paint);
      canvas.text(left + length + 5, top + kBar - 2, duration(us), 10);
    };
    draw(y, bar.native_us, kNative);
    if (bar.cudnn_us) draw(y + kBar, *bar.cudnn_us, kRival);
    const double middle = y + (row - kGap) / 2 + 4;
    canvas.text(0, middle, bar.name);
    canvas.text(details, middle, bar.detail, 12, Paint::kMuted);
    y += row;
  }
  return {.id = "bench",
          .title = plot.title,
          .description = plot.subtitle,
          .width = width,
          .height = bottom + kFoot,
          .body = canvas.take()};
}

}  // namespace mnist
