// The page: what is in it, what is left out, and that nothing foreign gets through.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "host/report/report.h"
#include "tests/report/elements.h"
#include "tests/support/catch.h"

namespace mnist {
namespace {

constexpr const char* kHostile = "</title><script>alert(1)</script>\"'&\xff\x01";

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

struct Case {
  Model model = parse_arch(kDefaultArch);
  std::vector<float> weights = std::vector<float>(model.arena_size, 0.5f);
  ImageSet set{.count = 3, .height = 28, .width = 28, .images = {}, .labels = {4, 7, 1}};
  Report report;

  Case() {
    set.images.resize(3 * 784, 100);
    report.name = "mnist.h5";
    report.model = &model;
    report.weights = weights;
    report.epochs = {{1, 0.5, 0.9, 0.25, 0.95}, {2, 0.4, 0.91, 0.3, 0.94}};
    Answers answers;
    answers.samples = 3;
    answers.confusion[4][9] = answers.confusion[7][7] = answers.confusion[1][1] = 1;
    answers.wrong = 1;
    answers.worst = {{0, 4, 9, 0.75f}};
    report.test = TestResult{"mnist", &set, answers, 0.125, 0};
    report.facts = {{"Seed", "42"}};
    report.written = "Written today.";
  }
};

}  // namespace

TEST_CASE("a page shows all that there is", "[report]") {
  const std::string html = report_html(Case().report);
  const std::string read_as_nine =
      "<th scope=\"row\">4</th><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td>"
      "<td>0</td><td>0</td><td>0</td><td>1</td>";
  CHECK(count(html, read_as_nine) == 1);
  for (const char* text :
       {"<html lang=\"en\">", "<title>mnist.h5: 66.67 %, cuda-mnist report</title>",
        "66.67 % of the 3 test images of mnist are read rightly, 1 wrongly.",
        "<dt>Test loss</dt><dd>0.1250</dd>", "<dt>Best epoch</dt><dd>1<small>95.00 %</small></dd>",
        "<dt>Parameters</dt><dd>225,034<small>in 7 layers</small></dd>", "id=\"accuracy-title\"",
        "id=\"loss-title\"", "id=\"confusion-title\"", "id=\"weights-title\"",
        "id=\"mistake-1-title\"", "4, read as 9<span>75.00 %</span>", "<dt>Seed</dt><dd>42</dd>",
        "conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128,dense:10", "Written today.",
        "<th scope=\"row\">conv2d (Conv2D)</th><td>26, 26, 32</td><td>320</td>"})
    CHECK(count(html, text) == 1);
  CHECK(count(html, "<h1") == 1);
  CHECK(count(html, kReportPolicy) == 1);
  for (const char* forbidden : {"<script", "http-equiv=\"refresh\"", "src=", "url(", "@import",
                                "<link", " style=", " onload", "http://", "https://"})
    CHECK(count(html, forbidden) == 0);
  // Every id once, and what is referred to is there.
  for (const std::string id : {"accuracy", "loss", "confusion", "weights", "mistake-1"})
    CHECK(count(html, "id=\"" + id + "-title\"") == 1);
}

TEST_CASE("a page leaves out what there is not", "[report]") {
  Case without;
  without.report.epochs.clear();
  without.report.test.reset();
  without.report.weights = {};
  const std::string html = report_html(without.report);
  for (const char* text : {"<h2>Training", "<h2>Test set", "<h2>Worst", "<h2>First layer", "nan"})
    CHECK(count(html, text) == 0);
  CHECK(count(html, "<h2>Model") == 1);
  CHECK(report_figures(without.report).empty());

  Case remark;
  remark.report.epochs.clear();
  remark.report.remarks = {"There is no log."};
  CHECK(count(report_html(remark.report), "<p>There is no log.</p>") == 1);

  Case right;
  right.report.test->answers.wrong = 0;
  right.report.test->answers.worst.clear();
  CHECK(count(report_html(right.report), "<p>There is none.</p>") == 1);
  CHECK(count(report_html(right.report), "All 3 test images of mnist are read rightly.") == 1);
  Case hidden;  // mistakes that were not asked for
  hidden.report.test->answers.worst.clear();
  CHECK(count(report_html(hidden.report), "Worst mistakes") == 0);
}

TEST_CASE("only a run that is under way is to be loaded again", "[report]") {
  Case c;
  c.report.status = "Under way: 2 of 9 epochs.";
  c.report.under_way = true;
  CHECK(count(report_html(c.report), "Reload this page") == 1);
  c.report.under_way = false;
  CHECK(count(report_html(c.report), "Reload this page") == 0);
  CHECK(count(report_html(c.report), "Under way: 2 of 9 epochs.") == 1);
}

TEST_CASE("nothing foreign becomes markup", "[report]") {
  Case hostile;
  hostile.model.layers[0].name = kHostile;
  Report& report = hostile.report;
  report.name = report.status = report.written = kHostile;
  report.remarks = {kHostile};
  report.facts = {{kHostile, kHostile}};
  report.test->dataset = kHostile;
  const std::string html = report_html(report);
  CHECK(count(html, "<script") == 0);
  CHECK(count(html, "</title>") == count(report_html(Case().report), "</title>"));
  CHECK(count(html, "&lt;script&gt;") >= 9);
  CHECK(count(html, "\xff") == 0);
  CHECK(count(html, "\x01") == 0);
  for (const Figure& figure : report_figures(report)) {
    REQUIRE_NOTHROW(test::parse_elements(svg_file(figure)));
    CHECK(count(svg_file(figure), "<script") == 0);
  }
}

TEST_CASE("a long run makes no huge page", "[report]") {
  Case c;
  c.report.epochs.clear();
  for (int64_t e = 1; e <= 5000; ++e) c.report.epochs.push_back({e, 0.5, 0.9, 0.25, 0.95});
  const std::string html = report_html(c.report);
  CHECK(html.size() < 1'000'000);
  CHECK(count(html, "The last 1000 epochs") == 2);
  CHECK(count(html, ">5,000</th>") == 1);
  CHECK(count(html, ">4,000</th>") == 0);
}

TEST_CASE("the figures alone have the names of their files", "[report]") {
  std::vector<std::string> names;
  for (const Figure& figure : report_figures(Case().report)) {
    names.push_back(figure.id);
    REQUIRE_NOTHROW(test::parse_elements(svg_file(figure)));
  }
  CHECK(names == std::vector<std::string>{"accuracy", "loss", "confusion", "mistakes", "weights"});
}

}  // namespace mnist
