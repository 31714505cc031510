#include "host/data/pictures/pieces.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "host/error.h"

namespace mnist {
namespace {

struct DestroyBoxa {
  void operator()(BOXA* boxes) const { boxaDestroy(&boxes); }
};
struct DestroyPixa {
  void operator()(PIXA* pictures) const { pixaDestroy(&pictures); }
};

}  // namespace

std::vector<Piece> pieces(PIX* binary) {
  PIXA* raw = nullptr;
  const std::unique_ptr<BOXA, DestroyBoxa> boxes(pixConnComp(binary, &raw, 8));
  const std::unique_ptr<PIXA, DestroyPixa> pictures(raw);
  if (!boxes) throw Error(ExitCode::kInternal, "no memory for the picture");
  std::vector<Piece> found;
  int64_t area_left = 30 * int64_t(pixGetWidth(binary)) * int64_t(pixGetHeight(binary));
  for (int i = 0; i < boxaGetCount(boxes.get()); ++i) {
    Piece s;
    boxaGetBoxGeometry(boxes.get(), i, &s.box.x, &s.box.y, &s.box.width, &s.box.height);
    area_left -= int64_t(s.box.width) * int64_t(s.box.height);
    if (area_left < 0) throw TooIntricate();
    const PixPtr pix = owned(pixaGetPix(pictures.get(), i, L_CLONE));
    Plane own = to_plane(pix.get());
    s.area = std::accumulate(own.pixels.begin(), own.pixels.end(), int64_t(0));
    s.width = line_width(own);
    s.mask = std::move(own.pixels);
    found.push_back(std::move(s));
  }
  return found;
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

Box united(const Box& a, const Box& b) {
  const int x = std::min(a.x, b.x), y = std::min(a.y, b.y);
  return {x, y, std::max(right(a), right(b)) - x, std::max(bottom(a), bottom(b)) - y};
}

}  // namespace mnist
