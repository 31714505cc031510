// The figure writer, the confusion matrix, digits and weights as pictures.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "host/report/figures.h"
#include "tests/report/elements.h"
#include "tests/support/catch.h"
#include "tests/support/random.h"

namespace mnist {
namespace {

using test::Element;
using Rgb = std::array<double, 3>;

Rgb rgb(const std::string& hex) {
  Rgb colour;
  for (size_t i = 0; i < 3; ++i)
    colour[i] = std::stoi(hex.substr(1 + 2 * i, 2), nullptr, 16) / 255.;
  return colour;
}

// WCAG 2.1.
double luminance(const Rgb& colour) {
  const auto linear = [](double c) {
    return c <= 0.03928 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
}

double contrast(const Rgb& a, const Rgb& b) {
  const auto [darker, lighter] = std::minmax({luminance(a), luminance(b)});
  return (lighter + 0.05) / (darker + 0.05);
}

Rgb over(const Rgb& paper, const Rgb& colour, double opacity) {
  Rgb mixed;
  for (size_t i = 0; i < 3; ++i) mixed[i] = paper[i] + opacity * (colour[i] - paper[i]);
  return mixed;
}

Rgb of(Paint paint, bool dark) {
  const auto all = colours();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Colour& c) { return c.paint == paint; });
  return rgb(dark ? found->dark : found->light);
}

Confusion some_confusion() {
  Confusion confusion{};
  for (size_t i = 0; i < kMnistClasses; ++i) confusion[i][i] = int64_t(900 + i);
  confusion[4][9] = 21;
  confusion[3][5] = 1;
  confusion[7] = {};  // no image of this class
  return confusion;
}

// Lengths of the runs of a path of tiles, by the opacity of their colour.
struct Run {
  double x, y, length, opacity;
  bool positive;
};
std::vector<Run> cell_runs(const std::string& svg, const char* positive, const char* negative) {
  std::vector<Run> runs;
  for (const Element& path : test::elements(svg, "path")) {
    if (path.attributes.count("shape-rendering") == 0) continue;
    const bool is_positive = path.has_class(positive);
    if (!is_positive && !path.has_class(negative)) continue;
    const char* at = path["d"].c_str();
    while (*at != '\0') {
      REQUIRE(*at == 'M');
      char* end = nullptr;
      Run run{};
      run.x = std::strtod(at + 1, &end);
      run.y = std::strtod(end, &end);
      REQUIRE(*end == 'h');
      run.length = std::strtod(end + 1, &end);
      const auto opacity = path.attributes.find("stroke-opacity");
      run.opacity = opacity == path.attributes.end() ? 1 : std::stod(opacity->second);
      run.positive = is_positive;
      runs.push_back(run);
      at = end;
    }
  }
  return runs;
}

FirstLayer tiles(int count, int rows, int columns) {
  Random random;
  FirstLayer layer{"conv2d", true, count, {}};
  for (int i = 0; i < count; ++i) {
    layer.tiles.push_back({rows, columns, {}});
    for (int cell = 0; cell < rows * columns; ++cell)
      layer.tiles.back().values.push_back(random.real(-1, 1));
  }
  return layer;
}

}  // namespace

TEST_CASE("colours can be read, in the light and in the dark", "[figures]") {
  for (const bool dark : {false, true}) {
    const Rgb paper = of(Paint::kPaper, dark), text = of(Paint::kText, dark);
    for (const Paint paint : {Paint::kText, Paint::kMuted, Paint::kFirst, Paint::kSecond})
      CHECK(contrast(of(paint, dark), paper) >= 4.5);
    // The counts of a confusion matrix stand on its shades.
    for (const Element& box : test::elements(svg_file(confusion_chart(some_confusion())), "rect"))
      for (const auto& [name, paint] :
           {std::pair{"f-first", Paint::kFirst}, {"f-second", Paint::kSecond}})
        if (box.has_class(name))
          CHECK(contrast(over(paper, of(paint, dark), std::stod(box["fill-opacity"])), text) >=
                4.5);
  }
  for (const Colour& colour : colours()) {
    CHECK(colour_rules().find(std::string(".f-") + colour.name) != std::string::npos);
    CHECK(colour_rules().find(colour.dark) != std::string::npos);
  }
}

TEST_CASE("a figure is named and described, in a file and in a page", "[figures]") {
  const Figure figure{"some-id", "A <title>", "Words & \"words\"", 30, 20, ""};
  for (const std::string& svg : {svg_file(figure), svg_inline(figure)}) {
    const auto found = test::parse_elements(svg);
    CHECK(found[0]["role"] == "img");
    CHECK(found[0]["aria-labelledby"] == "some-id-title some-id-words");
    CHECK(found[1]["id"] == "some-id-title");
    CHECK(found[1].text == "A <title>");
    CHECK(found[2]["id"] == "some-id-words");
    CHECK(found[2].text == "Words & \"words\"");
  }
  CHECK(test::parse_elements(svg_inline(figure))[0]["viewBox"] == "0 0 30 20");
  CHECK(test::parse_elements(svg_file(figure))[0]["viewBox"] == "-16 -16 62 52");
  CHECK(test::parse_elements(svg_file(figure))[0]["xmlns"] == "http://www.w3.org/2000/svg");
  // Only a file brings its own ground.
  CHECK(test::elements(svg_file(figure), "rect", "f-paper").size() == 1);
  CHECK(test::elements(svg_inline(figure), "rect").empty());
}

TEST_CASE("coordinates are short", "[figures]") {
  CHECK(coordinate(12) == "12");
  CHECK(coordinate(0.5) == "0.5");
  CHECK(coordinate(-0.001) == "0");
  CHECK(coordinate(100) == "100");
  CHECK(coordinate(1.005) == "1");
  CHECK(coordinate(-2.345) == "-2.35");
}

TEST_CASE("a confusion matrix shows each count in its cell", "[figures]") {
  const Confusion confusion = some_confusion();
  const std::string svg = svg_file(confusion_chart(confusion));
  // Where the classes stand says which cell a count is in.
  std::map<std::string, std::string> column, row, count;
  std::vector<Element> counts;
  for (const Element& text : test::elements(svg, "text")) {
    if (text.attributes.count("text-anchor") == 0) continue;
    if (text.attributes.count("font-size") && text["font-size"] == "13")
      (text["text-anchor"] == "end" ? row[text["y"]] : column[text["x"]]) = text.text;
    else
      counts.push_back(text);
  }
  REQUIRE(column.size() == 10);
  REQUIRE(row.size() == 10);
  Confusion read{};
  for (const Element& text : counts)
    if (column.count(text["x"]) && row.count(text["y"]))
      read[std::stoul(row[text["y"]])][std::stoul(column[text["x"]])] = std::stol(text.text);
  CHECK(read == confusion);
  // 9 classes with images on the diagonal, its frames, two mistakes; the keys.
  CHECK(test::elements(svg, "rect", "f-first").size() == 9 + 1);
  CHECK(test::elements(svg, "rect", "s-first").size() == 10 + 1);
  const auto mistakes = test::elements(svg, "rect", "f-second");
  REQUIRE(mistakes.size() == 2 + 3);
  CHECK(std::stod(mistakes[1]["fill-opacity"]) > std::stod(mistakes[0]["fill-opacity"]));
  const std::string words = confusion_chart(confusion).description;
  CHECK(words.find("4 read as 9, 21 times") != std::string::npos);
}

TEST_CASE("a confusion matrix of nothing, and of large numbers", "[figures]") {
  const std::string nothing = svg_file(confusion_chart({}));
  CHECK(test::elements(nothing, "rect", "f-first").size() == 1);  // the key's
  Confusion confusion{};
  confusion[0][1] = 1'000'000'000;
  const std::string svg = svg_file(confusion_chart(confusion));
  int counts = 0;
  for (const Element& text : test::elements(svg, "text"))
    if (text.text == "1000000000") {
      CHECK(std::stod(text["font-size"]) * 10 * 0.6 < 34);
      ++counts;
    }
  CHECK(counts == 1);
}

TEST_CASE("a digit's ink is where its pixels are", "[figures]") {
  std::vector<uint8_t> image(size_t(kMnistSide * kMnistSide));
  image[2 * kMnistSide + 3] = 255;
  image[2 * kMnistSide + 4] = 255;
  image[27 * kMnistSide + 27] = 128;
  image[0] = 5;  // too faint to be seen
  const Figure figure = digit_picture(image.data(), 56, "d", "a digit");
  const auto runs = cell_runs(svg_file(figure), "s-text", "s-none");
  REQUIRE(runs.size() == 2);
  const Run &faint = runs[0], &full = runs[1];
  CHECK((full.x == 3 && full.y == 2.5 && full.length == 2 && full.opacity == 1));
  CHECK((faint.x == 27 && faint.y == 27.5 && faint.length == 1 && faint.opacity == 0.5));
  CHECK(svg_file(figure).find("scale(2)") != std::string::npos);
}

TEST_CASE("mistakes are shown with truth, answer and probability", "[figures]") {
  ImageSet set{.count = 2, .height = 28, .width = 28, .images = {}, .labels = {4, 7}};
  set.images.resize(size_t(2 * kMnistSide * kMnistSide));
  set.images[5] = 255;                            // of image 0
  set.images[kMnistSide * kMnistSide + 9] = 255;  // of image 1
  const std::vector<Mistake> mistakes{{1, 7, 2, 0.99999f}, {0, 4, 9, 0.5f}};
  const std::string svg = svg_file(mistakes_chart(set, mistakes));
  std::vector<std::string> texts;
  for (const Element& text : test::elements(svg, "text")) texts.push_back(text.text);
  CHECK(texts == std::vector<std::string>{"Worst mistakes", "7, read as 2", "99.99 %",
                                          "4, read as 9", "50.00 %"});
  const auto ink = cell_runs(svg, "s-text", "s-none");
  REQUIRE(ink.size() == 2);
  CHECK((ink[0].x == 9 && ink[1].x == 5));
  const std::string none = svg_file(mistakes_chart(set, {}));
  CHECK(test::elements(none, "text").back().text == "None.");
  CHECK(percent_text(1) == "100.00 %");
}

TEST_CASE("weights have the colour of their sign and the strength of their size", "[figures]") {
  FirstLayer layer{"conv2d", true, 1, {{2, 2, {0.5f, -1.0f, 0.0f, 0.25f}}}};
  const std::string svg = svg_file(weights_chart(layer));
  auto runs = cell_runs(svg, "s-first", "s-second");
  // The key's shades are below the tile.
  std::erase_if(runs, [](const Run& run) { return run.y > 80; });
  REQUIRE(runs.size() == 3);
  for (const Run& run : runs) {
    const bool left = run.x == 0, upper = run.y < 50;
    CHECK(run.length == 21);  // a tile of 42 pixels
    if (left && upper) CHECK((run.positive && run.opacity == 0.5));
    if (!left && upper) CHECK((!run.positive && run.opacity == 1));
    if (!left && !upper) CHECK((run.positive && run.opacity == 0.25));
    CHECK(!(left && !upper));
  }
  // Symmetric: as many shades on either side, whatever the weights.
  CHECK(svg.find(">\xe2\x88\x92"
                 "1<") != std::string::npos);
  CHECK(svg.find(">+1<") != std::string::npos);
}

TEST_CASE("weights of any number and size have their place", "[figures]") {
  const int cases[][3] = {{1, 1, 1}, {32, 3, 3}, {512, 1, 1}, {512, 5, 5}, {20, 28, 28}, {3, 9, 1}};
  for (const auto& [count, rows, columns] : cases) {
    const Figure figure = weights_chart(tiles(count, rows, columns));
    const std::string svg = svg_file(figure);
    REQUIRE_NOTHROW(test::parse_elements(svg));
    CHECK(svg.size() < 300'000);
    for (const Run& run : cell_runs(svg, "s-first", "s-second")) {
      REQUIRE(run.x >= 0);
      REQUIRE(run.x + run.length <= figure.width);
      REQUIRE(run.y <= figure.height);
    }
  }
  // All zero, and not finite: paper.
  FirstLayer odd{"dense", false, 1, {{1, 3, {0, 0, 0}}}};
  const auto in_tile = [&] {
    auto runs = cell_runs(svg_file(weights_chart(odd)), "s-first", "s-second");
    std::erase_if(runs, [](const Run& run) { return run.y > 45; });
    return runs;
  };
  CHECK(in_tile().empty());
  odd.tiles[0].values = {NAN, -INFINITY, 1};
  REQUIRE(in_tile().size() == 1);
  CHECK((in_tile()[0].opacity == 1 && in_tile()[0].positive && in_tile()[0].x > 0));
}

TEST_CASE("the tiles of the first layer are slices of its kernel", "[figures]") {
  const auto first = [](const char* arch, size_t cells = 20'000) {
    const Model model = parse_arch(arch);
    std::vector<float> weights(model.arena_size);
    std::iota(weights.begin(), weights.end(), 0.0f);
    return first_layer(model, weights, cells);
  };
  const FirstLayer conv = first("conv:3x2x3,flatten,dense:10");
  CHECK((conv.filters && conv.tiles_in_all == 3 && conv.tiles.size() == 3));
  CHECK((conv.tiles[1].rows == 2 && conv.tiles[1].columns == 3));
  // [2,3,1,3]: filter 1 is every third value from 1.
  CHECK(conv.tiles[1].values == std::vector<float>{1, 4, 7, 10, 13, 16});

  const FirstLayer dense = first("pool:14,flatten,dropout:0.5,dense:10");
  CHECK((!dense.filters && dense.tiles.size() == 10));
  CHECK((dense.tiles[0].rows == 2 && dense.tiles[0].columns == 2));
  CHECK(dense.tiles[9].values == std::vector<float>{9, 19, 29, 39});
  CHECK(first("flatten,dense:10").tiles[0].rows == 28);

  const FirstLayer limited = first("conv:512x5,flatten,dense:10", 1000);
  CHECK((limited.tiles.size() == 40 && limited.tiles_in_all == 512));
  CHECK(first("conv:4x5,flatten,dense:10", 1).tiles.size() == 1);
}

}  // namespace mnist
