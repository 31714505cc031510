// The bar chart of `bench --compare --plot`.

#include <cmath>
#include <string>
#include <vector>

#include "host/report/bench_plot.h"
#include "tests/support/catch.h"

namespace mnist {

namespace {

constexpr const char* kNativeFill = "fill=\"#1f6fb4\"";
constexpr const char* kRivalFill = "fill=\"#b75703\"";

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Widths of the boxes of one colour, the legend's first.
std::vector<double> widths(const std::string& svg, const std::string& fill) {
  std::vector<double> found;
  for (size_t at = svg.find(fill); at != svg.npos; at = svg.find(fill, at + 1)) {
    const size_t width = svg.rfind("width=\"", at) + 7;
    found.push_back(std::stod(svg.substr(width)));
  }
  return found;
}

}  // namespace

TEST_CASE("a plot has a bar for each time, on one logarithmic axis", "[bench]") {
  const Plot plot{"A title", "R&D <GPU>", {{"one", "1x2", 3.0, 30.0}, {"two", "3x4", 300.0, {}}}};
  const std::string svg = svg_file(bench_chart(plot));
  for (const char* text :
       {">A title<", ">R&amp;D &lt;GPU&gt;<", ">one<", ">1x2<", ">two<", ">native<",
        ">cuDNN, cuBLAS<", ">3.00 µs<", ">30.0 µs<", ">300 µs<", ">1 µs<", ">100 µs<", ">1 ms<"})
    REQUIRE(count(svg, text) >= 1);
  const std::vector<double> native = widths(svg, kNativeFill), rival = widths(svg, kRivalFill);
  REQUIRE(native.size() == 3);
  REQUIRE(rival.size() == 2);
  // 3, 30 and 300 are a decade apart each.
  REQUIRE(rival[1] > native[1]);
  REQUIRE(std::fabs((native[2] - rival[1]) - (rival[1] - native[1])) <= 0.2);
  // The axis has three decades, from 1 us to 1 ms, and 460 pixels.
  REQUIRE(std::fabs(rival[1] - native[1] - 460 / 3.0) <= 0.2);
}

TEST_CASE("a plot without a rival does not speak of one", "[bench]") {
  const std::string svg = svg_file(bench_chart({"title", "subtitle", {{"one", "1x2", 1e6, {}}}}));
  REQUIRE(count(svg, "cuDNN") == 0);
  REQUIRE(count(svg, kRivalFill) == 0);
  REQUIRE(widths(svg, kNativeFill).size() == 2);
  REQUIRE(count(svg, ">1.00 s<") == 1);
}

}  // namespace mnist
