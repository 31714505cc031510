#include "host/data/pictures/strokes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "host/data/pictures/levels.h"

namespace mnist {
namespace {

constexpr int kFaintest = 16;     // ink below this is not looked at
constexpr int kShortest = 8;      // pixels; what is smaller is a speck
constexpr double kSoftest = 0.4;  // sharpness() of strokes is above, of shadows below
constexpr int kMinContrast = 30;  // a stroke is at least that much darker than its surroundings

// From where on levels are those of strokes; 256 if none are. A few dark strokes on much that is
// faint, such as ruled lines, come to light when the faintest are left out.
int dark_level(Histogram levels, int noise) {
  for (Division division = otsu(levels); division.level > 0; division = otsu(levels)) {
    if (division.high_mean - division.low_mean >= std::max(kMinContrast, 5 * noise))
      return division.level;
    std::fill(levels.begin(), levels.begin() + division.level, 0);
  }
  return 256;
}

// Adds the dark part of a blob, by the blob's own standard, to `out`.
void add_dark_part(const InkPlane& ink, const Piece& blob, Plane& out) {
  const Box& b = blob.box;
  const int margin = std::max(1, std::max(b.width, b.height) / 6);
  const int left = std::max(0, b.x - margin), end_x = std::min(ink.ink.width, right(b) + margin);
  const int top = std::max(0, b.y - margin), end_y = std::min(ink.ink.height, bottom(b) + margin);
  Histogram levels{};
  for (int y = top; y < end_y; ++y)
    for (int x = left; x < end_x; ++x) ++levels[ink.ink.at(x, y)];
  const int level = dark_level(levels, ink.noise);
  for (int y = b.y; y < bottom(b); ++y)
    for (int x = b.x; x < right(b); ++x)
      if (blob.has(x, y) && ink.ink.at(x, y) >= level) out.at(x, y) = 1;
}

// What a shadow lies on: the strokes within it, if it has any.
std::vector<Piece> darker_part(const InkPlane& ink, const Piece& shadow) {
  const Box& b = shadow.box;
  Histogram levels{};
  for (int y = b.y; y < bottom(b); ++y)
    for (int x = b.x; x < right(b); ++x)
      if (shadow.has(x, y)) ++levels[ink.ink.at(x, y)];
  const int level = dark_level(levels, ink.noise);
  Plane dark(b.width, b.height);
  for (int y = 0; y < b.height; ++y)
    for (int x = 0; x < b.width; ++x)
      dark.at(x, y) = shadow.has(b.x + x, b.y + y) && ink.ink.at(b.x + x, b.y + y) >= level;
  std::vector<Piece> parts = pieces(where_at_least(dark, 1).get());
  for (Piece& part : parts) part.box.x += b.x, part.box.y += b.y;
  return parts;
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
  const PixPtr open = owned(pixOpenCompBrick(nullptr, thick.get(), window, 1));
  const PixPtr whole = owned(pixCloseSafeCompBrick(nullptr, open.get(), window, 3));
  for (const Piece& rule : pieces(whole.get())) {
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

// A rectangle drawn around something: along each side of its box it is nearly closed.
// The border of the picture closes a side, too.
bool is_frame(const Piece& s, const Plane& plane) {
  const Box& b = s.box;
  const int band = int(2 * s.width + 0.03 * std::max(b.width, b.height)) + 1;
  if (band * 5 > std::min(b.width, b.height)) return false;
  const auto closed = [&](int length, const auto& has) {
    int covered = 0;
    for (int along = 0; along < length; ++along) {
      bool found = false;
      for (int depth = 0; depth < band && !found; ++depth) found = has(along, depth);
      covered += found;
    }
    return covered * 10 > length * 8;
  };
  const auto top = [&](int i, int d) { return s.has(b.x + i, b.y + d); };
  const auto low = [&](int i, int d) { return s.has(b.x + i, bottom(b) - 1 - d); };
  const auto left = [&](int i, int d) { return s.has(b.x + d, b.y + i); };
  const auto far = [&](int i, int d) { return s.has(right(b) - 1 - d, b.y + i); };
  return (b.y == 0 || closed(b.width, top)) &&
         (bottom(b) == plane.height || closed(b.width, low)) &&
         (b.x == 0 || closed(b.height, left)) && (right(b) == plane.width || closed(b.height, far));
}

bool encloses(const Box& a, const Box& b) {
  return a.x <= b.x && a.y <= b.y && right(a) >= right(b) && bottom(a) >= bottom(b);
}

void erase_frames(Plane& plane) {
  const std::vector<Piece> all = pieces(where_at_least(plane, 1).get());
  for (const Piece& frame : all) {
    const auto holds = [&](const Piece& p) {
      return &p != &frame && p.box.height * 5 > frame.box.height && encloses(frame.box, p.box);
    };
    if (!is_frame(frame, plane) || !std::any_of(all.begin(), all.end(), holds)) continue;
    for (int y = frame.box.y; y < bottom(frame.box); ++y)
      for (int x = frame.box.x; x < right(frame.box); ++x)
        if (frame.has(x, y)) plane.at(x, y) = 0;
  }
}

// How far along the border of the picture, or of the sheet, a stroke runs.
int border_contact(const Piece& s, const InkPlane& ink) {
  const auto outside = [&](int x, int y) {
    return x < 0 || y < 0 || x >= ink.ink.width || y >= ink.ink.height ||
           (!ink.sheet.pixels.empty() && !ink.sheet.at(x, y));
  };
  int contact = 0;
  for (int y = s.box.y; y < bottom(s.box); ++y)
    for (int x = s.box.x; x < right(s.box); ++x)
      contact += s.has(x, y) &&
                 (outside(x - 1, y) || outside(x + 1, y) || outside(x, y - 1) || outside(x, y + 1));
  return contact;
}

// A shadow, the edge of a sheet, a finger: cut off by the border over a good part of its length, or
// spanning the picture.
bool is_edge(const Piece& s, const InkPlane& ink) {
  const int longest = std::max(s.box.width, s.box.height);
  const bool across = s.box.width == ink.ink.width || s.box.height == ink.ink.height;
  return across || border_contact(s, ink) * 10 > longest * 4;
}

// How much of a stroke's darkness is lost within a few pixels across its outline: 1 for a pen's
// line, less where it is out of focus, nearly 0 at the edge of a soft shadow.
double sharpness(const Piece& s, const Plane& ink) {
  const int reach = 2 + std::max(ink.width, ink.height) / 400;
  double inside = 0, drop = 0;
  int64_t edges = 0;
  const auto at = [&](int x, int y) {
    return int(ink.at(std::clamp(x, 0, ink.width - 1), std::clamp(y, 0, ink.height - 1)));
  };
  const auto edge = [&](int x, int y, int dx, int dy) {  // (dx,dy) points out of the stroke
    int dark = 0, light = 255;
    for (int i = 0; i <= reach; ++i) {
      if (s.has(x - i * dx, y - i * dy)) dark = std::max(dark, at(x - i * dx, y - i * dy));
      light = std::min(light, at(x + i * dx, y + i * dy));
    }
    drop += dark - light;
    ++edges;
  };
  for (int y = s.box.y; y < bottom(s.box); ++y)
    for (int x = s.box.x; x < right(s.box); ++x) {
      if (!s.has(x, y)) continue;
      inside += ink.at(x, y);
      for (const int d : {-1, 1}) {
        if (!s.has(x + d, y)) edge(x, y, d, 0);
        if (!s.has(x, y + d)) edge(x, y, 0, d);
      }
    }
  return drop / double(edges) / (inside / double(s.area));
}

bool is_blot(const Piece& s) {
  return s.width * 20 > std::max(s.box.width, s.box.height) * 9;
}

}  // namespace

std::vector<Piece> find_strokes(const InkPlane& ink) {
  Plane dark(ink.ink.width, ink.ink.height);
  for (const Piece& blob :
       pieces(where_at_least(ink.ink, std::max(kFaintest, 4 * ink.noise)).get()))
    add_dark_part(ink, blob, dark);
  erase_frames(dark);
  erase_rules(dark);
  dark = transposed(dark);
  erase_rules(dark);
  dark = transposed(dark);

  std::vector<Piece> strokes = pieces(where_at_least(dark, 1).get());
  std::vector<Piece> written;
  for (int depth = 0; depth < 3 && !strokes.empty(); ++depth) {
    std::vector<Piece> inside;
    for (Piece& s : strokes) {
      if (std::max(s.box.width, s.box.height) < kShortest) continue;
      if (!is_edge(s, ink) && !is_blot(s) && sharpness(s, ink.ink) >= kSoftest)
        written.push_back(std::move(s));
      else
        for (Piece& part : darker_part(ink, s)) inside.push_back(std::move(part));
    }
    strokes = std::move(inside);
  }
  strokes = std::move(written);
  int64_t largest = 0;
  for (const Piece& s : strokes) largest = std::max(largest, s.area);
  std::erase_if(strokes, [&](const Piece& s) { return s.area * 20 < largest; });
  return strokes;
}

}  // namespace mnist
