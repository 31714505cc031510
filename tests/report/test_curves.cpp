// The curves of loss and accuracy: every point can be read back from the figure.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "host/report/figures.h"
#include "host/report/ticks.h"
#include "tests/report/elements.h"
#include "tests/support/catch.h"

namespace mnist {
namespace {

using test::Element;
using test::Point;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinite = std::numeric_limits<double>::infinity();

// A chart as a reader sees it: values by the labels of its axes.
class Reading {
 public:
  explicit Reading(const Figure& figure) : svg_(svg_file(figure)) {
    for (const Element& text : test::elements(svg_, "text", "f-muted")) {
      if (text.attributes.count("text-anchor") == 0) continue;
      const bool value = text["text-anchor"] == "end";
      std::string label = text.text;
      std::erase(label, ',');
      char* end = nullptr;
      const double number = std::strtod(label.c_str(), &end);
      if (end == label.c_str()) continue;
      (value ? values_ : epochs_)
          .push_back({number * (label.ends_with('%') ? 0.01 : 1),
                      std::stod(text[value ? "y" : "x"]) - (value ? 4 : 0)});
    }
  }
  struct Mark {
    double number, at;
  };
  // The left and right end of the lines that go across.
  std::pair<double, double> across() const {
    for (const Element& path : test::elements(svg_, "path", "s-grid")) {
      double left = 0, y = 0, right = 0;
      if (std::sscanf(path["d"].c_str(), "M%lf %lfH%lf", &left, &y, &right) == 3)
        return {left, right};
    }
    FAIL("no line goes across");
    return {};
  }
  // Lines of no length, whose round ends are points.
  size_t lone_points(const char* of_class) const {
    size_t count = 0;
    for (const Element& path : test::elements(svg_, "path", of_class))
      for (size_t at = 0; (at = path["d"].find("h0", at)) != std::string::npos; ++at) ++count;
    return count;
  }

  const std::vector<Mark>& values() const { return values_; }
  const std::vector<Mark>& epochs() const { return epochs_; }
  double value_at(double y) const { return between(values_, y); }
  double epoch_at(double x) const { return between(epochs_, x); }
  // Training is blue, validation orange. The first path of a colour is the key's.
  std::vector<Point> curve(const char* of_class) const {
    const auto paths = test::elements(svg_, "path", of_class);
    REQUIRE(paths.size() >= 1);
    return paths.size() == 1 ? std::vector<Point>() : test::points(paths[1]["d"]);
  }
  size_t dots(const char* of_class) const {
    return test::elements(svg_, "circle", of_class).size();
  }
  const std::string& svg() const { return svg_; }

 private:
  static double between(const std::vector<Mark>& marks, double at) {
    REQUIRE(marks.size() >= 2);
    const Mark &a = marks.front(), &b = marks.back();
    return a.number + (b.number - a.number) * (at - a.at) / (b.at - a.at);
  }

  std::string svg_;
  std::vector<Mark> values_, epochs_;
};

std::vector<EpochResult> run(int64_t epochs, int64_t first = 1) {
  std::vector<EpochResult> rows;
  for (int64_t e = first; e < first + epochs; ++e) {
    const double x = double(e - first + 1);
    rows.push_back(
        {e, 0.5 / x, 1 - 0.06 / x, 0.05 + 0.1 / x + 0.0001 * x, 0.99 - 0.05 / x - 0.00001 * x});
  }
  return rows;
}

void check_points(const std::vector<Point>& points, const std::vector<EpochResult>& rows,
                  double EpochResult::*value, const Reading& reading) {
  REQUIRE(points.size() == rows.size());
  const double height = std::fabs(reading.values().back().number - reading.values()[0].number);
  const double length = double(rows.back().epoch - rows.front().epoch);
  for (size_t i = 0; i < rows.size(); ++i) {
    // A hundredth of a pixel, of 166 and 320.
    REQUIRE(std::fabs(reading.value_at(points[i].y) - rows[i].*value) <= 1e-4 * height);
    REQUIRE(std::fabs(reading.epoch_at(points[i].x) - double(rows[i].epoch)) <= 1e-4 * length);
    REQUIRE(points[i].starts == (i == 0));
  }
}

bool has_text(const std::string& svg, const std::string& text) {
  for (const Element& element : test::elements(svg, "text"))
    if (element.text == text) return true;
  return false;
}

}  // namespace

TEST_CASE("every point of a curve can be read back", "[figures]") {
  for (const int64_t epochs : {2, 20, 100, 1000}) {
    const std::vector<EpochResult> rows = run(epochs);
    const Reading loss(loss_chart(rows)), accuracy(accuracy_chart(rows));
    check_points(loss.curve("s-first"), rows, &EpochResult::loss, loss);
    check_points(loss.curve("s-second"), rows, &EpochResult::val_loss, loss);
    check_points(accuracy.curve("s-first"), rows, &EpochResult::accuracy, accuracy);
    check_points(accuracy.curve("s-second"), rows, &EpochResult::val_accuracy, accuracy);
    for (const Reading* reading : {&loss, &accuracy}) {
      CHECK(reading->values().size() >= 4);
      CHECK(reading->values().size() <= 9);
      CHECK(reading->epochs().size() >= 2);
      CHECK(reading->epochs().size() <= 9);
      CHECK(reading->svg().size() < 100'000);
      for (const Reading::Mark& mark : reading->epochs())
        CHECK(mark.number == std::floor(mark.number));
    }
  }
}

TEST_CASE("one epoch is a point in the middle", "[figures]") {
  const std::vector<EpochResult> rows = run(1, 7);
  const Reading loss(loss_chart(rows));
  REQUIRE(loss.epochs().size() == 1);
  CHECK(loss.epochs()[0].number == 7);
  const auto [left, right] = loss.across();
  CHECK(std::fabs(loss.epochs()[0].at - (left + right) / 2) <= 0.01);
  for (const char* colour : {"s-first", "s-second"}) {
    const std::vector<Point> points = loss.curve(colour);
    REQUIRE(points.size() == 1);
    CHECK(points[0].x == loss.epochs()[0].at);
    CHECK(loss.lone_points(colour) == 1);
  }
  CHECK(loss.dots("f-first") == 1);
  CHECK(loss.dots("f-second") == 1);
}

TEST_CASE("the best epoch is the first of the best", "[figures]") {
  std::vector<EpochResult> rows = run(6);
  for (EpochResult& row : rows) row.val_accuracy = row.val_loss = 0.5;
  rows[2].val_accuracy = rows[4].val_accuracy = 0.9876;
  rows[1].val_loss = rows[3].val_loss = 0.0123;
  rows[5].val_accuracy = kNan;
  rows[5].val_loss = -kInfinite;
  CHECK(most_accurate(rows) == &rows[2]);
  CHECK(least_loss(rows) == &rows[1]);
  const Reading accuracy(accuracy_chart(rows));
  CHECK(has_text(accuracy.svg(), "best: 98.76 % after epoch 3"));
  CHECK(has_text(svg_file(loss_chart(rows)), "best: 0.0123 after epoch 2"));
  // A ring marks it.
  const auto rings = test::elements(accuracy.svg(), "circle", "f-paper");
  REQUIRE(rings.size() == 1);
  CHECK(std::fabs(accuracy.epoch_at(std::stod(rings[0]["cx"])) - 3) < 0.001);
  CHECK(std::fabs(accuracy.value_at(std::stod(rings[0]["cy"])) - 0.9876) < 0.0002);
}

TEST_CASE("gaps in a log are gaps in the curve", "[figures]") {
  std::vector<EpochResult> rows = run(9);
  rows[3].loss = kNan;       // epoch 4
  rows[5].loss = kInfinite;  // epoch 6; 5 stands alone
  rows.erase(rows.begin() + 7);
  const Reading reading(loss_chart(rows));
  std::vector<double> epochs, starts;
  for (const Point& point : reading.curve("s-first")) {
    epochs.push_back(std::round(reading.epoch_at(point.x)));
    if (point.starts) starts.push_back(epochs.back());
  }
  CHECK(epochs == std::vector<double>{1, 2, 3, 5, 7, 9});
  CHECK(starts == std::vector<double>{1, 5, 7, 9});
  CHECK(reading.lone_points("s-first") == 4);
}

TEST_CASE("charts of odd numbers are charts all the same", "[figures]") {
  const EpochResult cases[] = {
      {1, kNan, kNan, kNan, kNan},
      {1, kInfinite, -kInfinite, kInfinite, kNan},
      {1, 0, 0, 0, 0},
      {1, 1, 1, 1, 1},
      {1, -5, -1, -3, 2},
      {1, 1e308, 1e308, -1e308, -1e308},
      {1, 5e-324, 5e-324, 5e-324, 5e-324},
      {1, 1e30, 0.5, 1e-30, 0.5},
      {1'000'000'000, 0.25, 0.9, 0.25, 0.9},
  };
  for (const EpochResult& row : cases)
    for (const std::vector<EpochResult>& rows :
         {std::vector{row}, std::vector{row, EpochResult{row.epoch + 1, 0.5, 0.5, 0.5, 0.5}}})
      for (const Figure& figure : {loss_chart(rows), accuracy_chart(rows)}) {
        const std::string svg = svg_file(figure);
        REQUIRE_NOTHROW(test::parse_elements(svg));
        for (const Element& path : test::elements(svg, "path"))
          for (const char* bad : {"nan", "inf"}) REQUIRE(path["d"].find(bad) == std::string::npos);
        for (const Element& text : test::elements(svg, "text")) {
          REQUIRE(std::stod(text["y"]) >= 0);
          REQUIRE(std::stod(text["y"]) <= figure.height);
        }
      }
  const std::vector<EpochResult> nothing{cases[0], {2, kNan, kNan, kNan, kNan}};
  CHECK(has_text(svg_file(loss_chart(nothing)), "no number to draw"));
  CHECK(loss_chart(nothing).description.find("from no number to no number") != std::string::npos);
  CHECK(most_accurate(nothing) == nullptr);
}

TEST_CASE("an axis of accuracies ends at 100 %", "[figures]") {
  // Where the values are all the same, too.
  for (const double least : {0.05, 0.92, 0.9999, 1.0}) {
    const std::vector<EpochResult> rows{{1, 0.5, least, 0.5, least}, {2, 0.5, 1, 0.5, 1}};
    CHECK(std::fabs(Reading(accuracy_chart(rows)).values().back().number - 1) < 1e-9);
  }
  const Reading nothing_right(accuracy_chart(std::vector<EpochResult>{{1, 0.5, 0, 0.5, 0}}));
  CHECK(nothing_right.values().front().number == 0);
}

TEST_CASE("ticks are round and cover the range", "[figures]") {
  const std::pair<double, double> ranges[] = {{0, 1},         {0, 0.3},        {0.9386, 0.9925},
                                              {1, 1000},      {-3, 7},         {0, 1e-300},
                                              {1e300, 2e300}, {0.999, 0.9995}, {0, 123456789}};
  for (const auto& [least, greatest] : ranges) {
    const Ticks ticks = round_ticks(least, greatest, 5);
    REQUIRE(ticks.values.size() >= 3);
    REQUIRE(ticks.values.size() <= 9);
    const double slack = 1e-5 * ticks.step;
    CHECK(ticks.first() <= least + slack);
    CHECK(ticks.first() + ticks.step > least - slack);
    CHECK(ticks.last() >= greatest - slack);
    const double digits = ticks.step / std::pow(10, std::floor(std::log10(ticks.step) + 1e-9));
    CHECK((std::fabs(digits - 1) < 1e-6 || std::fabs(digits - 2) < 1e-6 ||
           std::fabs(digits - 5) < 1e-6));
  }
  // Three steps of 0.1 are more than 0.3, which takes no fourth.
  CHECK(round_ticks(0, 0.1 + 0.1 + 0.1, 3).values.size() == 4);
  CHECK(tick_text(0.30000000000000004, 0.1) == "0.3");
  CHECK(tick_text(0.05, 0.05) == "0.05");
  CHECK(tick_text(150, 50) == "150");
  CHECK(tick_text(0, 1e-9) == "0");
  CHECK(tick_text(2e-7, 1e-7) == "2e-07");
}

}  // namespace mnist
