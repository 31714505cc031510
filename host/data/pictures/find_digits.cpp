#include "host/data/pictures/find_digits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "host/data/pictures/ink.h"
#include "host/data/pictures/plane.h"
#include "host/data/pictures/prepare.h"
#include "host/data/pictures/strokes.h"

namespace mnist {
namespace {

constexpr int kMinContrast = 24;  // ink that is fainter than this is none
constexpr double kThinnest = 2.0;
constexpr int kTiny = 28;  // a picture no larger than MNIST's holds one digit

struct Group {
  Box box;
  std::vector<Piece> strokes;
};

// Whether a is a piece of the digit that b is the rest of. `height`: of the digits around.
bool is_piece(const Box& a, const Box& b, int height) {
  if (a.height * 10 > height * 6) return false;
  const Box both = united(a, b);
  const int across = overlap(a.x, right(a), b.x, right(b));
  const int gap = std::max(0, -overlap(a.y, bottom(a), b.y, bottom(b)));
  if (both.height * 10 > height * 18) return false;
  if (across * 4 >= std::min(a.width, b.width)) return gap * 4 < both.height;
  return std::hypot(std::max(0, -across), gap) * 8 < height;
}

// Two strokes side by side that cross each other's column: the parts of a 4, the halves of an 8.
bool interlock(const Box& a, const Box& b, int height) {
  const int across = overlap(a.x, right(a), b.x, right(b));
  const int along = overlap(a.y, bottom(a), b.y, bottom(b));
  return across * 2 >= std::min(a.width, b.width) && along > 0 &&
         united(a, b).height * 2 < height * 3;
}

std::vector<Group> joined(std::vector<Piece> strokes) {
  std::vector<Group> groups;
  int height = 0;
  for (Piece& s : strokes) {
    height = std::max(height, s.box.height);
    groups.push_back({s.box, {}});
    groups.back().strokes.push_back(std::move(s));
  }
  for (bool again = true; again;) {
    again = false;
    for (size_t i = 0; i < groups.size() && !again; ++i)
      for (size_t j = 0; j < groups.size() && !again; ++j)
        if (i != j && (is_piece(groups[j].box, groups[i].box, height) ||
                       interlock(groups[j].box, groups[i].box, height))) {
          groups[i].box = united(groups[i].box, groups[j].box);
          for (Piece& s : groups[j].strokes) groups[i].strokes.push_back(std::move(s));
          groups.erase(groups.begin() + std::ptrdiff_t(j));
          again = true;
        }
  }
  return groups;
}

Plane thickened(const Plane& ink, int longest) {
  const double least = kThinnest * longest / 20;
  const int more = int(least - line_width(ink) + 0.5);
  if (more < 1) return ink;
  Plane roomy(ink.width + 2 * more, ink.height + 2 * more);
  for (int y = 0; y < ink.height; ++y)
    for (int x = 0; x < ink.width; ++x) roomy.at(x + more, y + more) = ink.at(x, y);
  const PixPtr pix = to_pix(roomy);
  return to_plane(owned(pixDilateGray(pix.get(), more + 1, more + 1)).get());
}

FoundDigit prepared(const InkPlane& ink, const Group& group) {
  const Box& b = group.box;
  Plane own(b.width + 2, b.height + 2);
  for (const Piece& s : group.strokes)
    for (int y = 0; y < s.box.height; ++y)
      for (int x = 0; x < s.box.width; ++x)
        if (s.mask[size_t(y) * size_t(s.box.width) + size_t(x)])
          own.at(s.box.x - b.x + x + 1, s.box.y - b.y + y + 1) = 255;
  FoundDigit digit;
  digit.box = b;
  if (std::max(b.width, b.height) < 60) {
    Plane grey(own.width, own.height);
    for (int y = 0; y < own.height; ++y)
      for (int x = 0; x < own.width; ++x) {
        bool near = false;
        for (int v = std::max(0, y - 1); v <= std::min(own.height - 1, y + 1); ++v)
          for (int u = std::max(0, x - 1); u <= std::min(own.width - 1, x + 1); ++u)
            near = near || own.at(u, v);
        const int px = b.x + x - 1, py = b.y + y - 1;
        if (near && px >= 0 && py >= 0 && px < ink.ink.width && py < ink.ink.height)
          grey.at(x, y) = ink.ink.at(px, py) > 3 * ink.noise ? ink.ink.at(px, py) : 0;
      }
    digit.image = prepare_digit(
        std::max(b.width, b.height) > 24 ? thickened(grey, std::max(b.width, b.height)) : grey);
  } else {
    digit.image = prepare_digit(thickened(own, std::max(b.width, b.height)));
  }
  return digit;
}

void sort_into_lines(std::vector<FoundDigit>& digits) {
  std::sort(digits.begin(), digits.end(), [](const FoundDigit& a, const FoundDigit& b) {
    return a.box.y * 2 + a.box.height < b.box.y * 2 + b.box.height;
  });
  int line = -1, top = 0, end = 0;
  for (FoundDigit& d : digits) {
    const int shared = overlap(top, end, d.box.y, bottom(d.box));
    if (line < 0 || shared * 2 < std::min(end - top, d.box.height)) {
      ++line;
      top = d.box.y, end = bottom(d.box);
    } else {
      top = std::min(top, d.box.y), end = std::max(end, bottom(d.box));
    }
    d.line = line;
  }
  std::stable_sort(digits.begin(), digits.end(), [](const FoundDigit& a, const FoundDigit& b) {
    return a.line != b.line ? a.line < b.line : a.box.x < b.box.x;
  });
}

}  // namespace

PictureDigits find_digits(PIX* grey_pix, const FindOptions& options) {
  const Plane grey = to_plane(grey_pix);
  PictureDigits found;
  found.width = grey.width, found.height = grey.height;
  const InkPlane ink = find_ink(grey, options.ink);

  if (std::max(grey.width, grey.height) <= kTiny) {
    Plane own = ink.ink;
    int most = 0;
    for (uint8_t& v : own.pixels) {
      if (v <= 3 * ink.noise) v = 0;
      most = std::max<int>(most, v);
    }
    if (most < kMinContrast) {
      found.why_none = "the picture is blank";
      return found;
    }
    FoundDigit d;
    d.box = {0, 0, grey.width, grey.height};
    d.image = prepare_digit(own);
    found.digits.push_back(d);
    return found;
  }

  std::vector<Piece> strokes = find_strokes(ink);
  if (strokes.empty()) {
    found.why_none = "the picture is blank";
    return found;
  }
  for (const Group& g : joined(std::move(strokes))) found.digits.push_back(prepared(ink, g));
  sort_into_lines(found.digits);
  return found;
}

}  // namespace mnist
