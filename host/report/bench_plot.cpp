#include "host/report/bench_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mnist {
namespace {

constexpr const char* kNative = "#1f6fb4";
constexpr const char* kRival = "#e08a1e";
constexpr double kAxis = 460, kValues = 90;    // widths of the bars, and of the times after them
constexpr double kMargin = 16, kLetter = 7.4;  // pixels a letter, at most, on average
constexpr double kHead = 110, kFoot = 46, kBar = 11, kGap = 12;

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else
      result += c;
  }
  return result;
}

std::string text(double x, double y, const char* style, const std::string& content) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style,
                     escaped(content));
}

std::string box(double x, double y, double width, double height, const char* fill) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x, y,
      width, height, fill);
}

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

std::string draw_svg(const Plot& plot) {
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
  const double details = kMargin + kLetter * double(name + 1);
  const double left = details + kLetter * double(detail + 1);
  const double width =
      std::max(left + kAxis + kValues, 2 * kMargin + kLetter * double(plot.subtitle.size()));

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"Helvetica, Arial, sans-serif\" "
      "font-size=\"12\" fill=\"#222222\">\n",
      width, bottom + kFoot);
  svg += box(0, 0, width, bottom + kFoot, "#ffffff");
  svg += text(kMargin, 30, "font-size=\"18\" font-weight=\"bold\"", plot.title);
  svg += text(kMargin, 51, "fill=\"#555555\"", plot.subtitle);
  svg += box(kMargin, 66, 12, 12, kNative) + text(34, 76, "", "native");
  if (two) svg += box(96, 66, 12, 12, kRival) + text(114, 76, "", "cuDNN, cuBLAS");
  svg += text(left + kAxis / 2, bottom + 38, "text-anchor=\"middle\" fill=\"#555555\"",
              "median time, logarithmic; shorter is better");

  for (int exponent = axis.first(); exponent <= axis.last(); ++exponent) {
    const double x = left + axis.length(std::pow(10.0, exponent));
    svg += box(x - 0.5, kHead - 6, 1, bottom - kHead + 8, "#dddddd");
    svg += text(x, bottom + 17, "text-anchor=\"middle\" fill=\"#555555\"", decade(exponent));
    svg += text(x, kHead - 12, "text-anchor=\"middle\" fill=\"#555555\"", decade(exponent));
  }

  double y = kHead;
  for (const PlotBar& bar : plot.bars) {
    const auto draw = [&](double top, double us, const char* colour) {
      const double length = axis.length(us);
      svg += box(left, top, length, kBar - 1, colour);
      svg += text(left + length + 5, top + kBar - 2, "font-size=\"10\"", duration(us));
    };
    draw(y, bar.native_us, kNative);
    if (bar.cudnn_us) draw(y + kBar, *bar.cudnn_us, kRival);
    const double middle = y + (row - kGap) / 2 + 4;
    svg += text(kMargin, middle, "", bar.name);
    svg += text(details, middle, "fill=\"#777777\"", bar.detail);
    y += row;
  }
  return svg + "</svg>\n";
}

}  // namespace mnist
