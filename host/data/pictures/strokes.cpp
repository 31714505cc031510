#include "host/data/pictures/strokes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "host/error.h"

namespace mnist {
namespace {

constexpr int kFaintest = 16;     // ink below this is not looked at
constexpr int kMinContrast = 24;  // a stroke is at least that much darker than its surroundings

struct DestroyBoxa {
  void operator()(BOXA* boxes) const { boxaDestroy(&boxes); }
};
struct DestroyPixa {
  void operator()(PIXA* pictures) const { pixaDestroy(&pictures); }
};

struct Division {
  int level = 0;  // the first of the upper class
  double low_mean = 0, high_mean = 0;
};

// N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979.
Division otsu(const std::array<int64_t, 256>& histogram) {
  double total = 0, sum = 0;
  for (size_t i = 0; i < 256; ++i)
    total += double(histogram[i]), sum += double(i) * double(histogram[i]);
  double below = 0, below_sum = 0, best = -1;
  Division division;
  for (size_t i = 0; i < 255; ++i) {
    below += double(histogram[i]), below_sum += double(i) * double(histogram[i]);
    const double above = total - below;
    if (below == 0 || above == 0) continue;
    const double low = below_sum / below, high = (sum - below_sum) / above;
    const double between = below * above * (high - low) * (high - low);
    if (between > best) best = between, division = {int(i) + 1, low, high};
  }
  return division;
}

// Adds the dark part of a blob, by the blob's own standard, to `out`.
void add_dark_part(const InkPlane& ink, const Stroke& blob, Plane& out) {
  const Box& b = blob.box;
  const int margin = std::max(1, std::max(b.width, b.height) / 6);
  const int left = std::max(0, b.x - margin), end_x = std::min(ink.ink.width, right(b) + margin);
  const int top = std::max(0, b.y - margin), end_y = std::min(ink.ink.height, bottom(b) + margin);
  std::array<int64_t, 256> levels{};
  for (int y = top; y < end_y; ++y)
    for (int x = left; x < end_x; ++x) ++levels[ink.ink.at(x, y)];
  const Division division = otsu(levels);
  if (division.high_mean - division.low_mean < std::max(kMinContrast, 5 * ink.noise)) return;
  for (int y = b.y; y < bottom(b); ++y)
    for (int x = b.x; x < right(b); ++x)
      if (blob.has(x, y) && ink.ink.at(x, y) >= division.level) out.at(x, y) = 1;
}

std::vector<Stroke> pieces(PIX* binary) {
  PIXA* raw = nullptr;
  const std::unique_ptr<BOXA, DestroyBoxa> boxes(pixConnComp(binary, &raw, 8));
  const std::unique_ptr<PIXA, DestroyPixa> pictures(raw);
  if (!boxes) throw Error(ExitCode::kInternal, "no memory for the picture");
  std::vector<Stroke> strokes;
  for (int i = 0; i < boxaGetCount(boxes.get()); ++i) {
    Stroke s;
    boxaGetBoxGeometry(boxes.get(), i, &s.box.x, &s.box.y, &s.box.width, &s.box.height);
    const PixPtr pix = owned(pixaGetPix(pictures.get(), i, L_CLONE));
    Plane own(s.box.width, s.box.height);
    const int words = pixGetWpl(pix.get());
    const l_uint32* line = pixGetData(pix.get());
    uint8_t* out = own.pixels.data();
    for (int y = 0; y < s.box.height; ++y, line += words)
      for (int x = 0; x < s.box.width; ++x) s.area += * out++ = uint8_t(GET_DATA_BIT(line, x));
    s.width = line_width(own);
    s.mask = std::move(own.pixels);
    strokes.push_back(std::move(s));
  }
  return strokes;
}

Plane transposed(const Plane& plane) {
  Plane out(plane.height, plane.width);
  for (int y = 0; y < plane.height; ++y)
    for (int x = 0; x < plane.width; ++x) out.at(y, x) = plane.at(x, y);
  return out;
}

// Erases ruled lines from left to right, but not where a stroke crosses them.
void erase_rules(Plane& plane) {
  const int window = std::max(16, plane.width / 10);
  const PixPtr all = where_at_least(plane, 1);
  const PixPtr thick = owned(pixDilateBrick(nullptr, all.get(), 1, 3));  // lines are seldom level
  const PixPtr open = owned(pixOpenBrick(nullptr, thick.get(), window, 1));
  const PixPtr whole = owned(pixCloseBrick(nullptr, open.get(), window | 1, 3));
  for (const Stroke& rule : pieces(whole.get())) {
    if (rule.box.width * 4 < plane.width * 3 || rule.width * 25 > rule.box.width) continue;
    struct Run {
      int x, begin, end;
    };
    std::vector<Run> runs;
    for (int x = rule.box.x; x < right(rule.box); ++x)
      for (int y = rule.box.y; y < bottom(rule.box); ++y) {
        if (!rule.has(x, y) || plane.at(x, y) == 0) continue;
        Run run{x, y, y + 1};
        while (run.begin > 0 && plane.at(x, run.begin - 1)) --run.begin;
        while (run.end < plane.height && plane.at(x, run.end)) ++run.end;
        runs.push_back(run);
        y = run.end;
      }
    if (runs.empty()) continue;
    std::vector<int> lengths;
    for (const Run& run : runs) lengths.push_back(run.end - run.begin);
    std::nth_element(lengths.begin(), lengths.begin() + std::ptrdiff_t(lengths.size() / 2),
                     lengths.end());
    const int usual = lengths[lengths.size() / 2];
    for (const Run& run : runs)
      if (run.end - run.begin <= usual + usual / 2 + 1)
        for (int y = run.begin; y < run.end; ++y) plane.at(run.x, y) = 0;
  }
}

// How far along the picture's border a stroke runs.
int border_contact(const Stroke& s, const Plane& plane) {
  int contact = 0;
  for (int y = s.box.y; y < bottom(s.box); ++y) contact += s.has(0, y) + s.has(plane.width - 1, y);
  for (int x = s.box.x; x < right(s.box); ++x) contact += s.has(x, 0) + s.has(x, plane.height - 1);
  return contact;
}

// A shadow, the edge of a sheet, a finger: cut off by the border over a good part of its length, or
// spanning the picture.
bool is_edge(const Stroke& s, const Plane& plane) {
  const int longest = std::max(s.box.width, s.box.height);
  const bool across = s.box.width == plane.width || s.box.height == plane.height;
  return across || border_contact(s, plane) * 10 > longest * 4;
}

bool is_blot(const Stroke& s) {
  return s.width * 20 > std::max(s.box.width, s.box.height) * 9;
}

// A rectangle drawn around something: along each side of its box it is nearly closed.
bool is_frame(const Stroke& s) {
  const int band = int(2 * s.width + 0.03 * std::max(s.box.width, s.box.height)) + 1;
  if (band * 5 > std::min(s.box.width, s.box.height)) return false;
  const auto closed = [&](int length, const auto& has) {
    int covered = 0;
    for (int along = 0; along < length; ++along) {
      bool found = false;
      for (int depth = 0; depth < band && !found; ++depth) found = has(along, depth);
      covered += found;
    }
    return covered * 10 > length * 8;
  };
  const Box& b = s.box;
  return closed(b.width, [&](int i, int d) { return s.has(b.x + i, b.y + d); }) &&
         closed(b.width, [&](int i, int d) { return s.has(b.x + i, bottom(b) - 1 - d); }) &&
         closed(b.height, [&](int i, int d) { return s.has(b.x + d, b.y + i); }) &&
         closed(b.height, [&](int i, int d) { return s.has(right(b) - 1 - d, b.y + i); });
}

bool encloses(const Box& a, const Box& b) {
  return a.x < b.x && a.y < b.y && right(a) > right(b) && bottom(a) > bottom(b);
}

}  // namespace

std::vector<Stroke> connected(const Plane& plane) {
  return pieces(where_at_least(plane, 1).get());
}

// Twice the area by the length of the outline. The steps of a digital outline are 4/pi times as
// long as the curve, on average over all directions.
double line_width(const Plane& plane) {
  int64_t area = 0, outline = 0;
  for (int y = -1; y < plane.height; ++y)
    for (int x = -1; x < plane.width; ++x) {
      const auto at = [&](int u, int v) {
        return u >= 0 && v >= 0 && u < plane.width && v < plane.height && plane.at(u, v) != 0;
      };
      const bool here = at(x, y);
      area += here;
      outline += (here != at(x + 1, y)) + (here != at(x, y + 1));
    }
  constexpr double kSteps = 1.27324;
  return outline == 0 ? 0 : 2 * double(area) * kSteps / double(outline);
}

int right(const Box& box) {
  return box.x + box.width;
}
int bottom(const Box& box) {
  return box.y + box.height;
}
int overlap(int begin_a, int end_a, int begin_b, int end_b) {
  return std::min(end_a, end_b) - std::max(begin_a, begin_b);
}

std::vector<Stroke> find_strokes(const InkPlane& ink) {
  Plane dark(ink.ink.width, ink.ink.height);
  for (const Stroke& blob :
       pieces(where_at_least(ink.ink, std::max(kFaintest, 4 * ink.noise)).get()))
    add_dark_part(ink, blob, dark);
  erase_rules(dark);
  dark = transposed(dark);
  erase_rules(dark);
  dark = transposed(dark);

  std::vector<Stroke> strokes = connected(dark);
  std::erase_if(strokes, [&](const Stroke& s) { return is_edge(s, dark) || is_blot(s); });
  std::vector<Box> boxes;
  for (const Stroke& s : strokes) boxes.push_back(s.box);
  std::erase_if(strokes, [&](const Stroke& s) {
    return is_frame(s) && std::any_of(boxes.begin(), boxes.end(),
                                      [&](const Box& b) { return encloses(s.box, b); });
  });
  int64_t largest = 0;
  for (const Stroke& s : strokes) largest = std::max(largest, s.area);
  std::erase_if(strokes, [&](const Stroke& s) { return s.area * 20 < largest; });
  return strokes;
}

}  // namespace mnist
