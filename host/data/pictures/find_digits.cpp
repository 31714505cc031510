#include "host/data/pictures/find_digits.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "host/data/pictures/groups.h"
#include "host/data/pictures/ink.h"
#include "host/data/pictures/plane.h"
#include "host/data/pictures/prepare.h"
#include "host/data/pictures/strokes.h"

namespace mnist {
namespace {

constexpr int kMinContrast = 24;  // ink that is fainter than this is none
constexpr int kTiny = 28;         // a picture no larger than MNIST's holds one digit
constexpr int kSmall = 60;        // digits below this, in pixels, keep the grey of their edges
constexpr int kEnough = 1600;     // pixels on the longer side: a digit on a page has 20 or more
constexpr size_t kMaxStrokes = 500;

// The ink of a group in grey: what is within a pixel of its silhouette.
Plane grey_of(const InkPlane& ink, const Group& group, const Plane& silhouette) {
  const PixPtr all = where_at_least(silhouette, 1);
  const Plane near = to_plane(owned(pixDilateBrick(nullptr, all.get(), 3, 3)).get());
  Plane grey(near.width, near.height);
  for (int y = 0; y < grey.height; ++y)
    for (int x = 0; x < grey.width; ++x) {
      const int u = group.box.x - 1 + x, v = group.box.y - 1 + y;
      if (near.at(x, y) && u >= 0 && v >= 0 && u < ink.ink.width && v < ink.ink.height &&
          ink.ink.at(u, v) > 3 * ink.noise)
        grey.at(x, y) = ink.ink.at(u, v);
    }
  return grey;
}

FoundDigit found_digit(const InkPlane& ink, const Group& group) {
  FoundDigit digit;
  digit.box = group.box;
  const Plane black = silhouette(group);
  const bool small = std::max(group.box.width, group.box.height) < kSmall;
  digit.image = prepare_digit(thickened(small ? grey_of(ink, group, black) : black));
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
    }
    d.line = line;
  }
  std::stable_sort(digits.begin(), digits.end(), [](const FoundDigit& a, const FoundDigit& b) {
    return a.line != b.line ? a.line < b.line : a.box.x < b.box.x;
  });
}

// A picture of MNIST's own size: all that is on it, to the faintest pixel.
std::vector<FoundDigit> whole(InkPlane ink) {
  int most = 0;
  for (uint8_t& level : ink.ink.pixels) {
    if (level <= 3 * ink.noise) level = 0;
    most = std::max<int>(most, level);
  }
  if (most < kMinContrast) return {};
  FoundDigit digit;
  digit.box = {0, 0, ink.ink.width, ink.ink.height};
  digit.image = prepare_digit(ink.ink);
  return {digit};
}

Box scaled(const Box& box, double x, double y) {
  const int left = int(box.x * x), top = int(box.y * y);
  return {left, top, std::max(1, int(right(box) * x) - left),
          std::max(1, int(bottom(box) * y) - top)};
}

}  // namespace

void scale_boxes(PictureDigits& found, int width, int height) {
  const double x = double(width) / found.width, y = double(height) / found.height;
  for (FoundDigit& digit : found.digits) {
    digit.box = scaled(digit.box, x, y);
    for (FoundDigit& part : digit.parts) part.box = scaled(part.box, x, y);
  }
  found.width = width;
  found.height = height;
}

PictureDigits find_digits(PIX* grey, const FindOptions& options) try {
  const int longest = std::max(pixGetWidth(grey), pixGetHeight(grey));
  if (longest > kEnough) {
    const auto reduced = [&](int length) {
      return std::max(1, int(int64_t(length) * kEnough / longest));
    };
    const int width = reduced(pixGetWidth(grey)), height = reduced(pixGetHeight(grey));
    const PixPtr less = owned(pixScaleAreaMapToSize(grey, width, height));
    PictureDigits found = find_digits(less.get(), options);
    scale_boxes(found, pixGetWidth(grey), pixGetHeight(grey));
    return found;
  }
  PictureDigits found;
  found.width = pixGetWidth(grey);
  found.height = pixGetHeight(grey);
  InkPlane ink = find_ink(to_plane(grey), options.ink);
  if (std::max(found.width, found.height) <= kTiny) {
    found.digits = whole(std::move(ink));
  } else {
    std::vector<Piece> strokes = find_strokes(ink);
    if (strokes.size() > kMaxStrokes) {
      found.why_none =
          fmt::format("the picture shows {} shapes, too many for digits", strokes.size());
      return found;
    }
    if (options.single && !strokes.empty()) {
      found.digits.push_back(found_digit(ink, group_of(std::move(strokes))));
    } else {
      for (const Group& group : join_strokes(std::move(strokes))) {
        FoundDigit digit = found_digit(ink, group);
        for (const Group& part : split_touching(group))
          digit.parts.push_back(found_digit(ink, part));
        found.digits.push_back(std::move(digit));
      }
      sort_into_lines(found.digits);
      for (FoundDigit& digit : found.digits)
        for (FoundDigit& part : digit.parts) part.line = digit.line;
    }
  }
  if (found.digits.empty()) found.why_none = "the picture is blank";
  return found;
} catch (const TooIntricate&) {
  return {pixGetWidth(grey), pixGetHeight(grey), {}, "the picture shows a pattern, no digits"};
}

}  // namespace mnist
