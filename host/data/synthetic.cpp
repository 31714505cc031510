// Handwritten-looking digits. Each digit has a few ways of being written, given below as pen
// strokes; an image is one of them under a random smooth warp and affine map, drawn by distance to
// the strokes with a random pen and normalised as MNIST's digits are: the ink fitted into 20x20
// pixels, then moved by whole pixels so that its centre of mass lies in [14,15]. Only + - * / and
// sqrt in double, rounded to bytes at the end: the same digits on every machine.
#include "host/data/synthetic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "host/error.h"
#include "host/model/model.h"
#include "kernels/philox.h"

namespace mnist {
namespace {

constexpr int kBox = 20;  // the square that the ink fills
constexpr uint32_t kLabelStream = 0x40000000u;
constexpr uint32_t kDigitStream = 0x40000001u;

struct Point {
  double x = 0, y = 0;
  bool corner = false;  // the pen turns here; elsewhere it curves
};
using Stroke = std::vector<Point>;
using Glyph = std::vector<Stroke>;
constexpr bool kCorner = true;

// The points that the pen passes through; x to the right, y down, about 100 units high.
// clang-format off
const std::array<std::vector<Glyph>, 10>& glyphs() {
  static const std::array<std::vector<Glyph>, 10> table = {{
  {  // 0
    {{{35,0},{10,15},{0,50},{10,85},{33,100},{58,85},{68,50},{60,17},{36,0}}},
    {{{50,0},{15,15},{0,50},{15,85},{50,100},{85,85},{98,50},{85,15},{48,1}}},
    {{{25,0},{6,18},{0,50},{5,82},{22,100},{40,84},{46,50},{41,18},{24,0}}},
    {{{60,12},{38,0},{12,18},{0,55},{12,90},{40,100},{66,80},{72,45},{62,15},{40,2},{28,8}}},
    {{{28,4},{6,25},{0,60},{15,92},{42,100},{66,80},{70,40},{55,8},{40,0}}},
    {{{62,6},{40,10},{15,35},{0,75},{15,100},{45,90},{70,55},{78,20},{62,2},{45,8}}},
  },
  {  // 1
    {{{10,0},{10,50},{10,100}}},
    {{{12,0},{8,50},{10,100}}},
    {{{30,0},{17,50},{0,100}}},
    {{{0,22},{22,0,kCorner},{20,50},{20,100}}},
    {{{0,25},{28,0,kCorner},{28,50},{28,100,kCorner}},{{2,100},{55,99}}},
    {{{6,18},{20,0,kCorner},{18,50},{16,100}}},
    {{{48,0},{24,50},{0,100}}},
  },
  {  // 2
    {{{3,22},{20,3},{48,2},{60,22},{48,48},{22,76},{0,98,kCorner},{30,96},{68,98}}},
    {{{5,20},{25,2},{52,5},{58,28},{42,58},{18,88},{4,95},{4,84},{20,80},{45,92},{72,96}}},
    {{{2,30},{20,6},{52,0},{70,20},{58,52},{25,86},{2,98},{2,86},{22,78},{55,92},{95,88}}},
    {{{0,14},{30,0},{58,10},{56,36},{30,68},{2,96,kCorner},{36,94},{80,90}}},
    {{{8,35},{14,8},{40,0},{52,20},{40,55},{18,80},{0,100,kCorner},{26,86},{50,92},{64,100}}},
    {{{0,8},{28,2},{46,16},{42,50},{28,82},{6,92},{2,78},{20,72},{48,84},{60,92}}},
    {{{2,12},{26,0},{50,10},{52,40},{34,76},{10,90},{2,76},{22,64},{50,80},{74,96}}},
    {{{14,20},{34,0},{58,14},{50,46},{22,74},{4,82},{14,96},{44,84},{90,80}}},
    {{{4,24},{24,0},{52,4},{60,34},{50,74},{22,98},{2,90},{8,68},{36,66},{70,94}}},
    {{{10,10},{24,0},{34,10},{28,40},{0,80,kCorner},{40,80},{95,78}}},
    {{{0,10},{30,0},{56,6},{46,36},{10,70},{2,54},{30,54},{60,64},{90,66}}},
    {{{6,16},{30,0},{58,10},{58,50},{36,84},{8,96},{0,80},{16,66},{44,80},{66,98}}},
  },
  {  // 3
    {{{5,12},{30,0},{55,12},{50,35},{22,47,kCorner},{55,58},{62,80},{35,100},{0,90}}},
    {{{5,3},{32,3},{58,2,kCorner},{25,42,kCorner},{55,55},{60,80},{35,100},{0,90}}},
    {{{6,10},{32,0},{56,14},{44,38},{24,48},{18,44},{28,43},{54,56},{56,84},{28,100},{0,88}}},
    {{{0,16},{25,0},{48,10},{46,36},{22,46,kCorner},{58,50},{70,72},{50,96},{18,100},{0,92}}},
    {{{2,10},{34,0},{64,18},{52,42},{28,50,kCorner},{50,60},{52,84},{28,100},{4,94}}},
    {{{4,6},{40,0},{52,16},{36,42},{50,60},{52,80},{34,96},{2,100}}},
    {{{0,8},{24,0},{44,8},{40,30},{16,40,kCorner},{56,46},{66,68},{44,92},{4,98}}},
    {{{0,2},{40,6},{70,4,kCorner},{30,38,kCorner},{64,50},{60,86},{20,100},{0,84}}},
    {{{10,22},{4,8},{30,0},{52,14},{36,40},{20,44,kCorner},{54,54},{58,84},{30,100},{4,94},{8,80}}},
  },
  {  // 4
    {{{8,0},{2,30},{0,55,kCorner},{35,52},{66,50}},{{58,0},{55,50},{50,100}}},
    {{{48,0},{22,36},{0,64,kCorner},{36,62},{72,60}},{{48,0},{48,50},{48,100}}},
    {{{4,2},{2,34},{16,52},{40,50},{56,34},{60,2,kCorner},{56,50},{52,100}}},
    {{{14,4},{0,52,kCorner},{30,54},{60,46}},{{56,12},{46,58},{36,100}}},
    {{{6,0},{4,40,kCorner},{30,40},{62,38}},{{62,0},{60,40},{60,100}}},
    {{{10,6},{2,44},{30,50},{58,38}},{{64,0},{50,44},{34,100}}},
  },
  {  // 5
    {{{60,0},{34,1},{12,0,kCorner},{8,42,kCorner},{35,36},{60,55},{55,85},{25,100},{0,88}}},
    {{{14,4},{8,44,kCorner},{36,38},{58,58},{52,86},{24,100},{0,92}},{{14,4},{40,2},{70,0}}},
    {{{62,2},{24,5},{14,30},{32,45},{54,62},{46,90},{16,100},{0,92}}},
    {{{20,10},{10,42,kCorner},{40,44},{52,66},{36,94},{0,100}},{{22,8},{52,4},{86,0}}},
    {{{58,0},{22,4,kCorner},{16,38},{36,44},{48,62},{40,86},{20,98},{2,88},{10,78}}},
    {{{70,2},{40,0},{16,4,kCorner},{4,50,kCorner},{40,40},{68,62},{54,92},{20,100},{0,94}}},
    {{{64,6},{36,8},{16,2,kCorner},{4,40},{24,34},{58,48},{60,78},{30,100},{2,88},{12,70}}},
    {{{14,0},{4,36,kCorner},{30,34},{48,54},{40,84},{10,100}},{{12,2},{36,8},{60,0}}},
    {{{36,0},{10,6,kCorner},{4,44,kCorner},{36,46},{56,68},{40,94},{4,100}}},
  },
  {  // 6
    {{{45,0},{15,30},{2,65},{15,95},{42,95},{52,75},{38,58},{18,68},{10,84}}},
    {{{20,0},{6,40},{0,74},{16,98},{44,94},{50,72},{30,60},{6,72}}},
    {{{60,0},{28,18},{4,52},{4,84},{28,100},{58,88},{62,62},{40,50},{14,62},{6,80}}},
    {{{52,6},{36,0},{12,24},{0,64},{14,96},{44,98},{60,76},{46,56},{18,62},{6,76}}},
    {{{40,0},{18,44},{0,80},{14,100},{34,92},{44,70},{30,62},{10,80}}},
    {{{30,0},{8,40},{2,80},{26,100},{64,90},{68,68},{44,60},{14,74},{6,88}}},
    {{{34,0},{8,44},{2,82},{22,100},{46,84},{44,66},{24,66},{8,84}}},
    {{{30,0},{8,40},{4,80},{28,100},{60,88},{58,58},{36,52},{20,70},{22,92}}},
    {{{18,0},{4,36},{0,74},{18,98},{44,88},{48,60},{30,48},{16,64},{14,90}}},
    {{{50,4},{20,16},{0,56},{8,92},{40,100},{62,80},{50,60},{26,64},{8,84}}},
    {{{20,0},{4,50},{10,94},{50,98},{80,74},{60,56},{30,72},{26,90}}},
  },
  {  // 7
    {{{0,5},{30,4},{60,3,kCorner},{38,45},{22,100}}},
    {{{0,5},{30,4},{60,3,kCorner},{38,45},{22,100}},{{12,52},{32,50},{56,48}}},
    {{{2,24},{4,4,kCorner},{34,5},{62,2,kCorner},{40,50},{24,100}}},
    {{{0,14},{22,3},{50,5},{54,22},{40,56},{28,100}}},
    {{{0,10},{24,12},{56,0,kCorner},{50,50},{46,100}}},
    {{{0,20},{12,4},{30,10},{56,2,kCorner},{36,44},{14,100}}},
    {{{4,16},{14,2},{34,8},{60,6,kCorner},{44,40},{34,100}},{{20,52},{64,46}}},
    {{{4,22},{8,2,kCorner},{36,6},{66,4,kCorner},{44,44},{36,98}},{{22,50},{66,44}}},
    {{{0,8},{40,6},{72,0},{66,24},{40,56},{30,100}}},
    {{{0,16},{6,2,kCorner},{24,6},{44,2,kCorner},{40,50},{32,100}}},
    {{{6,8},{30,4},{52,6,kCorner},{38,50},{20,100}},{{0,56},{70,46}}},
  },
  {  // 8
    {{{52,9},{28,0},{6,14},{18,38},{46,58},{55,82},{28,100},{2,82},{12,60},{40,42},{55,18},{48,6}}},
    {{{30,46},{8,26},{26,0},{48,22},{30,46},{4,76},{28,100},{56,76},{32,47}}},
    {{{40,10},{22,0},{6,16},{16,40},{34,62},{36,86},{18,100},{0,84},{8,62},{30,38},{40,14}}},
    {{{66,8},{30,0},{14,18},{30,40},{50,62},{46,92},{18,100},{0,84},{18,60},{48,38},{66,10}}},
    {{{24,50},{8,28},{26,2},{54,4},{56,24},{30,48},{10,70},{12,94},{34,100},{48,80},{26,52}}},
    {{{60,4},{48,30},{20,58},{0,84},{18,100},{40,84},{30,52},{16,22},{32,0},{58,8}}},
    {{{50,18},{34,0},{6,10},{10,34},{44,54},{54,80},{30,100},{4,84},{18,62},{60,30},{58,4}}},
    {{{26,44},{4,28},{8,6},{34,0},{50,18},{26,44},{8,60},{6,90},{30,100},{46,84},{44,62},{26,44}}},
    {{{70,4},{36,6},{22,24},{40,44},{50,70},{34,96},{8,98},{4,78},{28,54},{58,28},{68,4}}},
    {{{56,20},{36,0},{8,8},{8,30},{34,48},{52,72},{38,98},{10,96},{4,74},{30,50},{54,30},{70,4}}},
    {{{54,14},{24,0},{0,20},{20,44},{46,62},{44,90},{24,100},{12,84},{30,54},{60,30},{56,10}}},
    {{{48,14},{20,0},{0,18},{14,40},{34,60},{36,92},{24,100},{16,84},{28,54},{50,26},{46,10}}},
    {{{48,16},{30,0},{8,12},{16,34},{50,52},{72,76},{44,100},{4,90},{8,64},{44,42},{54,20},{46,8}}},
  },
  {  // 9
    {{{50,15},{28,0},{3,20},{10,45},{35,42},{52,12},{50,55},{45,100}}},
    {{{52,12},{26,0},{2,20},{8,46},{34,46},{54,14},{54,54},{38,92},{8,98}}},
    {{{56,6},{30,2},{4,24},{8,46},{32,42},{58,4,kCorner},{44,52},{28,100}}},
    {{{44,10},{24,0},{4,16},{10,36},{32,34},{46,8,kCorner},{46,54},{46,100}}},
    {{{60,20},{40,0},{8,12},{0,38},{22,52},{52,36},{60,14},{56,60},{40,100}}},
    {{{26,4},{2,26},{12,48},{40,40},{50,8},{28,0},{44,20,kCorner},{42,60},{34,100}}},
    {{{46,14},{30,4},{8,22},{4,42},{22,46},{44,22},{52,6,kCorner},{38,54},{20,100}}},
    {{{40,8},{16,2},{2,18},{14,34},{40,24},{44,8,kCorner},{40,60},{30,100}}},
    {{{48,14},{24,0},{2,16},{12,40},{38,38},{48,16},{48,56},{44,86},{22,98},{0,88}}},
    {{{52,20},{36,0},{10,8},{0,34},{16,52},{42,44},{54,16},{52,60},{50,100}}},
    {{{50,4},{16,6},{0,30},{12,48},{40,40},{56,8,kCorner},{40,56},{20,100}}},
    {{{50,8},{30,0},{8,14},{2,32},{20,40},{40,26},{50,10},{44,56},{36,100}}},
    {{{70,10},{36,0},{4,20},{6,46},{40,46},{70,16},{70,60},{60,100}}},
    {{{52,22},{34,0},{6,14},{4,40},{30,46},{52,24},{60,40},{50,78},{26,100},{2,92}}},
    {{{64,2},{24,8},{4,30},{16,48},{44,36},{52,10},{50,60},{44,100}}},
  },
  }};
  return table;
}
// clang-format on

// Random numbers of one image.
class Draws {
 public:
  Draws(uint64_t seed, int64_t index) : seed_(seed), index_(uint64_t(index)) {}
  double uniform(double low, double high) { return low + (high - low) * (next() * 0x1p-32); }
  // Bell-shaped around 0 with standard deviation `sigma`: the sum of three uniform numbers.
  double bell(double sigma) {
    double sum = 0;
    for (int i = 0; i < 3; ++i) sum += uniform(-1, 1);
    return sigma * sum;
  }
  size_t below(size_t count) { return size_t(uint64_t(next()) * count >> 32); }

 private:
  uint32_t next() {
    const uint64_t draw = draw_++;
    if (draw % 4 == 0) words_ = philox(seed_, kDigitStream, index_, draw / 4);
    const uint32_t words[4] = {words_.x, words_.y, words_.z, words_.w};
    return words[draw % 4];
  }

  uint64_t seed_, index_, draw_ = 0;
  PhiloxWords words_{};
};

// Every ten consecutive images hold each digit once, in random order.
uint8_t label_of(uint64_t seed, int64_t index) {
  std::array<uint8_t, 10> order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  for (uint32_t last = 9; last > 0; --last) {
    const uint32_t word = philox(seed, kLabelStream, uint64_t(index / 10), last).x;
    std::swap(order[last], order[uint64_t(word) * (last + 1) >> 32]);
  }
  return order[size_t(index % 10)];
}

// Sets the points as another hand, or the same hand another time, would: every point and every
// stroke a little off, the plane bent by a random quadratic map, the digit widened, slanted and
// turned.
void vary(Glyph& glyph, Draws& draws) {
  double bend[2][3];
  for (auto& row : bend)
    for (double& value : row) value = draws.bell(0.18);
  const double width = 1 + draws.bell(0.18);
  const double slant = 0.1 + draws.bell(0.22);  // most people lean to the right
  const double turn = draws.bell(0.08);
  for (Stroke& stroke : glyph) {
    const double dx = draws.bell(0.03), dy = draws.bell(0.03);
    for (Point& point : stroke) {
      const double x = (point.x - 35) / 50, y = (point.y - 50) / 50;
      const double terms[3] = {x * x, x * y, y * y};
      double u = x + dx + draws.bell(0.1), v = y + dy + draws.bell(0.1);
      for (int i = 0; i < 3; ++i) u += bend[0][i] * terms[i], v += bend[1][i] * terms[i];
      u = width * u - slant * v;
      point.x = u - turn * v;
      point.y = v + turn * u;
    }
  }
}

// A piece of a stroke that is short enough to be straight, and the pen's radius there.
struct Segment {
  double x0, y0, x1, y1, radius;
};

// Appends the curve through the points: cubic Hermite spans whose tangents are half the distance
// between the neighbours (Catmull and Rom), one-sided at ends and corners.
void trace(const Stroke& stroke, Draws& draws, std::vector<Segment>& segments) {
  constexpr int kSteps = 5;
  double radius = 1 + draws.bell(0.08);
  for (size_t i = 0; i + 1 < stroke.size(); ++i) {
    const Point &p = stroke[i], &q = stroke[i + 1];
    const Point& before = i == 0 || p.corner ? p : stroke[i - 1];
    const Point& after = i + 2 == stroke.size() || q.corner ? q : stroke[i + 2];
    const double next_radius = 1 + draws.bell(0.08);
    double x0 = p.x, y0 = p.y;
    for (int step = 1; step <= kSteps; ++step) {
      const double t = double(step) / kSteps, s = 1 - t;
      const double a = s * s * (1 + 2 * t), b = t * t * (1 + 2 * s);
      const double c = 0.5 * s * s * t, d = 0.5 * t * t * s;
      const double x1 = a * p.x + b * q.x + c * (q.x - before.x) - d * (after.x - p.x);
      const double y1 = a * p.y + b * q.y + c * (q.y - before.y) - d * (after.y - p.y);
      segments.push_back({x0, y0, x1, y1, s * radius + t * next_radius});
      x0 = x1, y0 = y1;
    }
    radius = next_radius;
  }
}

// Scales and moves the strokes so that their ink fills the longer side of the box and is centred on
// the shorter; `radius` and `edge` of the pen in pixels.
void fit(std::vector<Segment>& segments, double radius, double edge) {
  double left = segments[0].x0, right = left, top = segments[0].y0, bottom = top;
  for (const Segment& s : segments) {
    left = std::min({left, s.x0, s.x1});
    right = std::max({right, s.x0, s.x1});
    top = std::min({top, s.y0, s.y1});
    bottom = std::max({bottom, s.y0, s.y1});
  }
  const double scale =
      (kBox - 2 * radius - (edge - 1)) / std::max({right - left, bottom - top, 1e-3});
  for (Segment& s : segments) {
    s.x0 = kBox / 2.0 + scale * (s.x0 - (left + right) / 2);
    s.x1 = kBox / 2.0 + scale * (s.x1 - (left + right) / 2);
    s.y0 = kBox / 2.0 + scale * (s.y0 - (top + bottom) / 2);
    s.y1 = kBox / 2.0 + scale * (s.y1 - (top + bottom) / 2);
    s.radius *= radius;
  }
}

using Box = std::array<uint8_t, kBox * kBox>;

// Ink falls from full to none over `edge` pixels across the pen's rim.
Box render(const std::vector<Segment>& segments, double edge) {
  std::array<double, kBox * kBox> ink{};
  for (const Segment& s : segments) {
    const double dx = s.x1 - s.x0, dy = s.y1 - s.y0;
    const double inverse = 1 / std::max(dx * dx + dy * dy, 1e-9);
    const double reach = s.radius + edge / 2;
    const int x_begin = std::max(0, int(std::min(s.x0, s.x1) - reach));
    const int x_end = std::min(kBox, int(std::max(s.x0, s.x1) + reach) + 1);
    const int y_begin = std::max(0, int(std::min(s.y0, s.y1) - reach));
    const int y_end = std::min(kBox, int(std::max(s.y0, s.y1) + reach) + 1);
    for (int y = y_begin; y < y_end; ++y) {
      for (int x = x_begin; x < x_end; ++x) {
        const double px = x + 0.5 - s.x0, py = y + 0.5 - s.y0;
        const double t = std::clamp((px * dx + py * dy) * inverse, 0.0, 1.0);
        const double ex = px - t * dx, ey = py - t * dy;
        double& pixel = ink[size_t(y * kBox + x)];
        pixel = std::max(pixel, reach - std::sqrt(ex * ex + ey * ey));
      }
    }
  }
  const double full = std::min(edge, *std::ranges::max_element(ink));  // a thin pen is black too
  Box box;
  for (size_t i = 0; i < box.size(); ++i)
    box[i] = uint8_t(255 * std::min(1.0, ink[i] / full) + 0.5);
  return box;
}

// The whole number of pixels that moves the centre of mass into [14,15]: trunc(15 - c).
int shift(int64_t moment, int64_t mass) {
  return int((30 * mass - moment) / (2 * mass));
}

void centre(const Box& box, uint8_t* image) {
  int64_t mass = 0, moment_x = 0, moment_y = 0;  // doubled, since pixel centres are at half numbers
  for (int y = 0; y < kBox; ++y) {
    for (int x = 0; x < kBox; ++x) {
      const int64_t ink = box[size_t(y * kBox + x)];
      mass += ink;
      moment_x += ink * (2 * x + 1);
      moment_y += ink * (2 * y + 1);
    }
  }
  const int x_shift = shift(moment_x, mass), y_shift = shift(moment_y, mass);
  for (int y = std::max(0, -y_shift); y < std::min(kBox, kMnistSide - y_shift); ++y) {
    for (int x = std::max(0, -x_shift); x < std::min(kBox, kMnistSide - x_shift); ++x)
      image[(y + y_shift) * kMnistSide + x + x_shift] = box[size_t(y * kBox + x)];
  }
}

void draw_digit(uint8_t digit, Draws& draws, uint8_t* image) {
  const std::vector<Glyph>& variants = glyphs()[digit];
  Glyph glyph = variants[draws.below(variants.size())];
  vary(glyph, draws);
  std::vector<Segment> segments;
  for (const Stroke& stroke : glyph) trace(stroke, draws, segments);
  const double radius = std::max(0.7, 1.3 + draws.bell(0.45));  // pixels
  const double edge = draws.uniform(1, 1.6);
  fit(segments, radius, edge);
  centre(render(segments, edge), image);
}

}  // namespace

ImageSet synthetic_digits(int64_t count, uint64_t seed) {
  if (count < 0) throw Error(ExitCode::kInternal, "synthetic_digits: a negative count");
  ImageSet set;
  set.count = count;
  set.height = set.width = kMnistSide;
  set.images.resize(size_t(count) * kMnistSide * kMnistSide);
  set.labels.resize(size_t(count));
  for (int64_t i = 0; i < count; ++i) {
    Draws draws(seed, i);
    set.labels[size_t(i)] = label_of(seed, i);
    draw_digit(set.labels[size_t(i)], draws, &set.images[size_t(i) * kMnistSide * kMnistSide]);
  }
  return set;
}

}  // namespace mnist
