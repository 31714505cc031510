// Small pictures side by side: digits, and the weights of the first layer.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "host/report/figures.h"
#include "host/text.h"

namespace mnist {
namespace {

// Cells of one strength are drawn as one path, row by row, with lines as thick as a row is high.
// That is a tenth of a rectangle for each, and sharp in every viewer.
class Cells {
 public:
  // `size`: pixels of a cell.
  explicit Cells(double size) : size_(size) {}

  // One row of cells at (left, top): `level` of each, from -kLevels to kLevels; 0 is the paper.
  template <typename Level>
  void add_row(double left, double top, int count, const Level& level) {
    for (int begin = 0, end = 0; begin < count; begin = end) {
      const int shade = level(begin);
      while (end < count && level(end) == shade) ++end;
      if (shade == 0) continue;
      paths_[size_t(shade + kLevels)] +=
          fmt::format("M{} {}h{}", coordinate(left + begin * size_), coordinate(top + size_ / 2),
                      coordinate((end - begin) * size_));
    }
  }
  void draw(Canvas& canvas, Paint positive, Paint negative) const {
    for (int shade = -kLevels; shade <= kLevels; ++shade) {
      const std::string& path = paths_[size_t(shade + kLevels)];
      if (path.empty()) continue;
      canvas.line(path, {shade > 0 ? positive : negative, size_, std::abs(shade) / double(kLevels)},
                  true);
    }
  }

  static constexpr int kLevels = 16;

 private:
  const double size_;
  std::array<std::string, 2 * kLevels + 1> paths_;
};

void draw_digit(Canvas& canvas, const uint8_t* image) {
  Cells cells(1);
  for (int row = 0; row < kMnistSide; ++row)
    cells.add_row(0, row, kMnistSide, [&](int column) {
      return (image[row * kMnistSide + column] * Cells::kLevels + 127) / 255;
    });
  cells.draw(canvas, Paint::kText, Paint::kNone);
}

const uint8_t* image_of(const ImageSet& set, const Mistake& mistake) {
  return set.images.data() + mistake.image * kMnistSide * kMnistSide;
}

constexpr double kTilesWidth = 400;  // of a figure of tiles
constexpr double kTilesTop = 30;     // of the first row, below the title

// Where tiles are, row by row.
struct Grid {
  size_t columns;
  double across, down;  // from one to the next

  double left(size_t tile) const { return across * double(tile % columns); }
  double top(size_t tile) const {
    const size_t row = tile / columns;
    return kTilesTop + down * double(row);
  }
  double bottom(size_t tiles) const { return top(tiles + columns - 1); }
};

}  // namespace

Figure digit_picture(const uint8_t* image, double side, const std::string& id,
                     const std::string& title) {
  Canvas canvas;
  canvas.begin_group(0, 0, side / kMnistSide);
  draw_digit(canvas, image);
  canvas.end_group();
  return {.id = id,
          .title = title,
          .description = "",
          .width = side,
          .height = side,
          .body = canvas.take()};
}

std::string mistake_words(const Mistake& mistake) {
  return fmt::format("{}, read as {}", mistake.truth, mistake.answer);
}

std::string percent_text(double share) {
  return fmt::format("{:.2f} %", share < 1 ? std::min(100 * share, 99.99) : 100 * share);
}

Figure mistakes_chart(const ImageSet& set, std::span<const Mistake> mistakes) {
  constexpr double kSide = 56;
  constexpr Grid kGrid{5, kTilesWidth / 5, kSide + 44};
  Canvas canvas;
  canvas.text(0, 16, "Worst mistakes", 15, Paint::kText, Anchor::kStart, true);
  if (mistakes.empty()) canvas.text(0, kTilesTop + 14, "None.");
  std::string words;
  for (size_t i = 0; i < mistakes.size(); ++i) {
    const Mistake& mistake = mistakes[i];
    const double left = kGrid.left(i), top = kGrid.top(i);
    canvas.begin_group(left, top, kSide / kMnistSide);
    draw_digit(canvas, image_of(set, mistake));
    canvas.end_group();
    canvas.frame(left + 0.5, top + 0.5, kSide - 1, kSide - 1, {Paint::kGrid});
    canvas.text(left, top + kSide + 14, mistake_words(mistake));
    canvas.text(left, top + kSide + 28, percent_text(mistake.probability), 12, Paint::kMuted);
    words += fmt::format("{}{} ({})", i > 0 ? "; " : "", mistake_words(mistake),
                         percent_text(mistake.probability));
  }
  return {.id = "mistakes",
          .title = "The mistakes with the most confident answers",
          .description = words,
          .width = kTilesWidth,
          .height = std::max(kTilesTop + 24, kGrid.bottom(mistakes.size())),
          .body = canvas.take()};
}

FirstLayer first_layer(const Model& model, std::span<const float> weights, size_t cells) {
  FirstLayer result;
  const auto kernel = std::find_if(model.parameters.begin(), model.parameters.end(),
                                   [](const Parameter& p) { return p.name == "kernel"; });
  const Layer& layer = model.layers[size_t(kernel->layer)];
  result.name = layer.name;
  result.filters = layer.has_window();
  // A dense layer sees the whole of the last image before it.
  Extent seen{layer.window_h, layer.window_w, layer.input.c};
  if (!result.filters) {
    int before = kernel->layer;
    while (before > 0 && model.layers[size_t(before - 1)].flat) --before;
    seen = before > 0 ? model.layers[size_t(before - 1)].output : model.input;
  }
  // [rows,columns,channels,units]
  const int64_t units = layer.units, plane = int64_t{seen.h} * seen.w;
  result.tiles_in_all = units * seen.c;
  const int64_t count = std::clamp<int64_t>(int64_t(cells) / plane, 1, result.tiles_in_all);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t unit = i / seen.c, channel = i % seen.c;
    WeightTile tile{seen.h, seen.w, std::vector<float>(size_t(plane))};
    for (int64_t cell = 0; cell < plane; ++cell)
      tile.values[size_t(cell)] =
          weights[kernel->offset + size_t((cell * seen.c + channel) * units + unit)];
    result.tiles.push_back(std::move(tile));
  }
  return result;
}

Figure weights_chart(const FirstLayer& layer) {
  float greatest = 0;
  int side = 1;
  for (const WeightTile& tile : layer.tiles) {
    side = std::max({side, tile.rows, tile.columns});
    for (const float weight : tile.values)
      if (std::isfinite(weight)) greatest = std::max(greatest, std::fabs(weight));
  }
  const double wanted = layer.tiles.size() <= 128 ? 42 : 22;
  const double cell = std::max(2.0, std::floor(wanted / side)), across = cell * side + 8;
  const Grid grid{std::max<size_t>(1, size_t((kTilesWidth + 8) / across)), across, across};

  Cells cells(cell);
  std::string frames;
  for (size_t i = 0; i < layer.tiles.size(); ++i) {
    const WeightTile& tile = layer.tiles[i];
    const double left = grid.left(i), top = grid.top(i);
    for (int row = 0; row < tile.rows; ++row)
      cells.add_row(left, top + cell * row, tile.columns, [&](int column) {
        const float weight = tile.values[size_t(row * tile.columns + column)];
        if (!(greatest > 0) || !std::isfinite(weight)) return 0;
        return int(std::lround(weight / greatest * Cells::kLevels));
      });
    frames += fmt::format("M{} {}h{}v{}h-{}z", coordinate(left), coordinate(top),
                          coordinate(cell * tile.columns), coordinate(cell * tile.rows),
                          coordinate(cell * tile.columns));
  }
  const double bottom = grid.bottom(layer.tiles.size());

  Canvas canvas;
  canvas.text(0, 16, fmt::format("{} of layer {}", layer.filters ? "Filters" : "Units", layer.name),
              15, Paint::kText, Anchor::kStart, true);
  cells.draw(canvas, Paint::kFirst, Paint::kSecond);
  canvas.line(frames, {Paint::kGrid}, true);
  const std::string range = fmt::format("{:.2g}", greatest);
  canvas.text(0, bottom + 14, "\u2212" + range, 12, Paint::kMuted);
  const double left = 12 + 7.5 * double(range.size() + 1);
  Cells key(8);
  key.add_row(left, bottom + 5, 2 * Cells::kLevels + 1,
              [](int column) { return column - Cells::kLevels; });
  key.draw(canvas, Paint::kFirst, Paint::kSecond);
  canvas.text(left + 8 * (2 * Cells::kLevels + 1) + 6, bottom + 14, "+" + range, 12, Paint::kMuted);
  return {.id = "weights",
          .title = fmt::format("Weights of the first layer, {}", layer.name),
          .description = fmt::format("{} tiles of {} by {} weights between -{} and {}.",
                                     grouped(int64_t(layer.tiles.size())), layer.tiles[0].rows,
                                     layer.tiles[0].columns, range, range),
          .width = std::max(kTilesWidth, across),
          .height = bottom + 22,
          .body = canvas.take()};
}

}  // namespace mnist
