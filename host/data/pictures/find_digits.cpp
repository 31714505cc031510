#include "host/data/pictures/find_digits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "host/data/pictures/ink.h"
#include "host/data/pictures/plane.h"
#include "host/data/pictures/prepare.h"
#include "host/error.h"

namespace mnist {
namespace {

constexpr int kFaintest = 16;     // ink below this is not looked at
constexpr int kMinContrast = 24;  // a stroke that is fainter than this at its core is shading
constexpr double kThinnest = 2.0;
constexpr int kTiny = 28;  // a picture no larger than MNIST's holds one digit

struct DestroyBoxa {
  void operator()(BOXA* boxes) const { boxaDestroy(&boxes); }
};
struct DestroyPixa {
  void operator()(PIXA* pictures) const { pixaDestroy(&pictures); }
};

// A connected stroke: its pixels within its box.
struct Stroke {
  Box box;
  int64_t area = 0;
  std::vector<uint8_t> mask;  // [box.height,box.width], 0 or 1
};

int right(const Box& b) {
  return b.x + b.width;
}
int bottom(const Box& b) {
  return b.y + b.height;
}

Box united(const Box& a, const Box& b) {
  const int x = std::min(a.x, b.x), y = std::min(a.y, b.y);
  return {x, y, std::max(right(a), right(b)) - x, std::max(bottom(a), bottom(b)) - y};
}

int overlap(int a, int a_end, int b, int b_end) {
  return std::min(a_end, b_end) - std::max(a, b);
}

std::vector<Stroke> components(const Plane& plane, int level) {
  const PixPtr binary = where_at_least(plane, level);
  PIXA* raw = nullptr;
  const std::unique_ptr<BOXA, DestroyBoxa> boxes(pixConnComp(binary.get(), &raw, 8));
  const std::unique_ptr<PIXA, DestroyPixa> pictures(raw);
  if (!boxes) throw Error(ExitCode::kInternal, "no memory for the picture");
  std::vector<Stroke> strokes;
  for (int i = 0; i < boxaGetCount(boxes.get()); ++i) {
    Stroke s;
    boxaGetBoxGeometry(boxes.get(), i, &s.box.x, &s.box.y, &s.box.width, &s.box.height);
    const PixPtr pix = owned(pixaGetPix(pictures.get(), i, L_CLONE));
    s.mask.resize(size_t(s.box.width) * size_t(s.box.height));
    const int words = pixGetWpl(pix.get());
    const l_uint32* line = pixGetData(pix.get());
    uint8_t* out = s.mask.data();
    for (int y = 0; y < s.box.height; ++y, line += words)
      for (int x = 0; x < s.box.width; ++x) s.area += * out++ = GET_DATA_BIT(line, x);
    strokes.push_back(std::move(s));
  }
  return strokes;
}

// N. Otsu's threshold: the level that divides the values best in two.
int otsu(const std::array<int64_t, 256>& histogram, int* low_mean, int* high_mean) {
  double total = 0, sum = 0;
  for (int i = 0; i < 256; ++i) total += histogram[i], sum += double(i) * histogram[i];
  double below = 0, below_sum = 0, best = -1;
  int level = 1;
  for (int i = 0; i < 255; ++i) {
    below += histogram[i], below_sum += double(i) * histogram[i];
    const double above = total - below;
    if (below == 0 || above == 0) continue;
    const double difference = below_sum / below - (sum - below_sum) / above;
    const double between = below * above * difference * difference;
    if (between > best) {
      best = between, level = i + 1;
      *low_mean = int(below_sum / below), *high_mean = int((sum - below_sum) / above);
    }
  }
  return level;
}

// The strokes of a blob: what is dark in it, by its own standard.
std::vector<Stroke> strokes_of(const Plane& ink, const Stroke& blob) {
  const int margin = std::max(1, std::max(blob.box.width, blob.box.height) / 6);
  const int x0 = std::max(0, blob.box.x - margin),
            x1 = std::min(ink.width, right(blob.box) + margin);
  const int y0 = std::max(0, blob.box.y - margin),
            y1 = std::min(ink.height, bottom(blob.box) + margin);
  std::array<int64_t, 256> levels{};
  for (int y = y0; y < y1; ++y)
    for (int x = x0; x < x1; ++x) ++levels[ink.at(x, y)];
  int low = 0, high = 0;
  const int level = otsu(levels, &low, &high);
  if (high - low < kMinContrast) return {};
  Plane own(blob.box.width, blob.box.height);
  for (int y = 0; y < own.height; ++y)
    for (int x = 0; x < own.width; ++x)
      if (blob.mask[size_t(y) * size_t(own.width) + size_t(x)])
        own.at(x, y) = ink.at(blob.box.x + x, blob.box.y + y);
  std::vector<Stroke> strokes = components(own, level);
  for (Stroke& s : strokes) s.box.x += blob.box.x, s.box.y += blob.box.y;
  return strokes;
}

struct Group {
  Box box;
  std::vector<Stroke> strokes;
};

bool belong_together(const Box& a, const Box& b, int height) {
  const int x = overlap(a.x, right(a), b.x, right(b));
  if (x * 2 < std::min(a.width, b.width)) return false;
  const int gap = -overlap(a.y, bottom(a), b.y, bottom(b));
  const Box both = united(a, b);
  const bool both_tall = std::min(a.height, b.height) * 10 > height * 6;
  if (both_tall && gap > 0) return false;
  return gap * 4 < both.height && both.height < height * 1.5;
}

std::vector<Group> joined(std::vector<Stroke> strokes) {
  std::vector<Group> groups;
  int height = 0;
  for (Stroke& s : strokes) {
    height = std::max(height, s.box.height);
    groups.push_back({s.box, {}});
    groups.back().strokes.push_back(std::move(s));
  }
  for (bool again = true; again;) {
    again = false;
    for (size_t i = 0; i < groups.size() && !again; ++i)
      for (size_t j = i + 1; j < groups.size() && !again; ++j)
        if (belong_together(groups[i].box, groups[j].box, height)) {
          groups[i].box = united(groups[i].box, groups[j].box);
          for (Stroke& s : groups[j].strokes) groups[i].strokes.push_back(std::move(s));
          groups.erase(groups.begin() + std::ptrdiff_t(j));
          again = true;
        }
  }
  return groups;
}

// The mean width of the strokes: twice the area by the length of the outline. The steps of a
// digital outline are 4/pi times as long as the curve, on average over all directions.
double stroke_width(const Plane& ink) {
  int64_t area = 0, outline = 0;
  for (int y = 0; y < ink.height; ++y)
    for (int x = 0; x < ink.width; ++x) {
      const bool here = ink.at(x, y) >= 128;
      area += here;
      if (x > 0) outline += here != (ink.at(x - 1, y) >= 128);
      if (y > 0) outline += here != (ink.at(x, y - 1) >= 128);
    }
  constexpr double kSteps = 1.27324;
  return outline == 0 ? 0 : 2.0 * double(area) * kSteps / double(outline);
}

Plane thickened(const Plane& ink, int longest) {
  const double least = kThinnest * longest / 20;
  const int more = int(least - stroke_width(ink) + 0.5);
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
  for (const Stroke& s : group.strokes)
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

  std::vector<Stroke> strokes;
  for (const Stroke& blob : components(ink.ink, std::max(kFaintest, 4 * ink.noise)))
    for (Stroke& s : strokes_of(ink.ink, blob)) strokes.push_back(std::move(s));
  int64_t largest = 0;
  for (const Stroke& s : strokes) largest = std::max(largest, s.area);
  std::erase_if(strokes, [&](const Stroke& s) { return s.area * 20 < largest; });
  if (strokes.empty()) {
    found.why_none = "the picture is blank";
    return found;
  }
  for (const Group& g : joined(std::move(strokes))) found.digits.push_back(prepared(ink, g));
  sort_into_lines(found.digits);
  return found;
}

}  // namespace mnist
