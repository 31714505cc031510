#include "host/data/pictures/prepare.h"

#include <algorithm>
#include <cmath>

#include "host/data/pictures/pieces.h"

namespace mnist {
namespace {

constexpr int kSide = 28, kBox = 20;
constexpr int kBright = 250;  // MNIST's brightest pixel is 254 or 255

struct Extent {
  int first = 0, last = -1;
  int size() const { return last - first + 1; }
};

Extent extent(int length, const auto& has_ink) {
  Extent found;
  while (found.first < length && !has_ink(found.first)) ++found.first;
  found.last = length - 1;
  while (found.last > found.first && !has_ink(found.last)) --found.last;
  return found;
}

// A square of real ink, 0 to 1.
struct Square {
  int side = 0;
  std::vector<float> ink;  // [side,side]
  explicit Square(int n) : side(n), ink(size_t(n) * size_t(n)) {}
  float& at(int x, int y) { return ink[size_t(y) * size_t(side) + size_t(x)]; }
  float at(int x, int y) const { return ink[size_t(y) * size_t(side) + size_t(x)]; }
};

Extent rows_of(const Plane& ink) {
  return extent(ink.height, [&](int y) {
    const auto row = ink.pixels.begin() + std::ptrdiff_t(y) * ink.width;
    return std::any_of(row, row + ink.width, [](uint8_t v) { return v > 0; });
  });
}

Extent columns_of(const Plane& ink) {
  return extent(ink.width, [&](int x) {
    for (int y = 0; y < ink.height; ++y)
      if (ink.at(x, y) > 0) return true;
    return false;
  });
}

// The bounding box of the ink, extended to a square on both sides of the shorter length.
Square crop(const Plane& ink) {
  constexpr int kSmallest = 10;  // a dot stays smaller than a digit
  const Extent rows = rows_of(ink), columns = columns_of(ink);
  Square square(std::max({rows.size(), columns.size(), kSmallest}));
  const int left = (square.side - columns.size()) / 2, top = (square.side - rows.size()) / 2;
  for (int y = 0; y < rows.size(); ++y)
    for (int x = 0; x < columns.size(); ++x)
      square.at(left + x, top + y) = float(ink.at(columns.first + x, rows.first + y)) / 255;
  return square;
}

Square doubled(const Square& in) {
  Square out(2 * in.side);
  for (int y = 0; y < out.side; ++y)
    for (int x = 0; x < out.side; ++x) out.at(x, y) = in.at(x / 2, y / 2);
  return out;
}

// Columns of `in` averaged by area to `kBox` of them; the result is transposed.
std::vector<float> average_columns(const std::vector<float>& in, int rows, int from) {
  std::vector<float> out(size_t(kBox) * size_t(rows));
  const double ratio = double(from) / kBox;
  for (int i = 0; i < kBox; ++i) {
    const double begin = i * ratio, end = std::min((i + 1) * ratio, double(from));
    for (int row = 0; row < rows; ++row) {
      double sum = 0;
      for (int x = int(begin); x < from && x < end; ++x)
        sum += double(in[size_t(row) * size_t(from) + size_t(x)]) *
               (std::min(x + 1.0, end) - std::max(double(x), begin));
      out[size_t(i) * size_t(rows) + size_t(row)] = float(sum / ratio);
    }
  }
  return out;
}

Square fitted(const Square& in) {
  Square out(kBox);
  out.ink = average_columns(average_columns(in.ink, in.side, in.side), kBox, in.side);
  return out;
}

// How far to move what has its centre of mass at `centre`, for that to be within [14, 15].
int shift(double centre) {
  return int(std::floor(kSide / 2.0 + 1 - centre));
}

}  // namespace

std::array<uint8_t, kSide * kSide> prepare_digit(const Plane& ink) {
  Square square = crop(ink);
  if (square.side != kBox) {
    while (square.side < kBox) square = doubled(square);
    square = fitted(square);
  }
  const float brightest = *std::max_element(square.ink.begin(), square.ink.end());
  const float scale = brightest * 255 < kBright ? 255 / brightest : 255;

  double mass = 0, x_mass = 0, y_mass = 0;
  for (int y = 0; y < kBox; ++y)
    for (int x = 0; x < kBox; ++x) {
      mass += square.at(x, y);
      x_mass += (x + 0.5) * square.at(x, y);
      y_mass += (y + 0.5) * square.at(x, y);
    }
  const int left = shift(x_mass / mass), top = shift(y_mass / mass);
  std::array<uint8_t, kSide * kSide> image{};
  for (int y = std::max(0, -top); y < kBox && top + y < kSide; ++y)
    for (int x = std::max(0, -left); x < kBox && left + x < kSide; ++x)
      image[size_t(top + y) * kSide + size_t(left + x)] =
          uint8_t(std::clamp(std::lround(square.at(x, y) * scale), 0L, 255L));
  return image;
}

Plane thickened(const Plane& ink) {
  constexpr double kThinnest = 2;  // of 20 pixels; the median of MNIST's test images is 2.3
  const int longest = std::max(rows_of(ink).size(), columns_of(ink).size());
  Plane core = ink;
  for (uint8_t& level : core.pixels) level = level >= 128;
  const int more = int(kThinnest * longest / kBox - line_width(core) + 0.5);
  if (longest <= kBox || more < 1) return ink;
  Plane roomy(ink.width + 2 * more, ink.height + 2 * more);
  for (int y = 0; y < ink.height; ++y)
    for (int x = 0; x < ink.width; ++x) roomy.at(x + more, y + more) = ink.at(x, y);
  return to_plane(owned(pixDilateGray(to_pix(roomy).get(), more | 1, more | 1)).get());
}

}  // namespace mnist
