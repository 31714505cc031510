#include "host/data/pictures/groups.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace mnist {
namespace {

// Whether a is a piece of the digit that b is the rest of: the bar of a 5, a gap in a line.
// `height`: of a digit.
bool is_piece(const Box& a, const Box& b, int height) {
  if (a.height * 10 > height * 6) return false;
  const Box both = united(a, b);
  if (both.height * 10 > height * 18) return false;
  const int across = overlap(a.x, right(a), b.x, right(b));
  const int gap = std::max(0, -overlap(a.y, bottom(a), b.y, bottom(b)));
  if (across * 4 >= std::min(a.width, b.width)) return gap * 4 < both.height;
  return std::hypot(std::max(0, -across), gap) * 12 < height;
}

// Two strokes that stand in each other's place: those of a 4, the halves of an 8.
bool interlock(const Box& a, const Box& b, int height) {
  const int across = overlap(a.x, right(a), b.x, right(b));
  const int along = overlap(a.y, bottom(a), b.y, bottom(b));
  return across * 2 >= std::min(a.width, b.width) && along > 0 &&
         united(a, b).height * 10 < height * 22;
}

// The upper quartile of the heights of those that are not small.
template <typename T>
int usual_height(const std::vector<T>& things) {
  int tallest = 0;
  for (const T& thing : things) tallest = std::max(tallest, thing.box.height);
  std::vector<int> heights;
  for (const T& thing : things)
    if (thing.box.height * 2 > tallest) heights.push_back(thing.box.height);
  const auto middle = heights.begin() + std::ptrdiff_t(heights.size() * 3 / 4);
  std::nth_element(heights.begin(), middle, heights.end());
  return *middle;
}

// The way down through a silhouette that crosses the least ink, by dynamic programming: its column
// in each row. It stays within the middle of the width; among equals it stays near the centre.
std::vector<int> cheapest_cut(const Plane& ink, int64_t* crossed) {
  constexpr int64_t kInk = 1000;
  const int left = ink.width / 5, width = ink.width - 2 * left;
  std::vector<int64_t> cost(size_t(width), 0);
  std::vector<int8_t> from(size_t(width) * size_t(ink.height), 0);
  for (int y = 0; y < ink.height; ++y) {
    const std::vector<int64_t> above = cost;
    for (int x = 0; x < width; ++x) {
      int step = 0;
      for (const int d : {-1, 1})
        if (x + d >= 0 && x + d < width && above[size_t(x + d)] < above[size_t(x + step)]) step = d;
      const int aside = std::abs(2 * (left + x) - ink.width) * 10 / ink.width;
      cost[size_t(x)] = above[size_t(x + step)] + (ink.at(left + x, y) ? kInk : 0) + aside;
      from[size_t(y) * size_t(width) + size_t(x)] = int8_t(step);
    }
  }
  int x = int(std::min_element(cost.begin(), cost.end()) - cost.begin());
  *crossed = cost[size_t(x)] / kInk;
  std::vector<int> cut(size_t(ink.height), 0);
  for (int y = ink.height - 1; y >= 0; --y) {
    cut[size_t(y)] = left + x;
    x += from[size_t(y) * size_t(width) + size_t(x)];
  }
  return cut;
}

// What lies on one side of the cut, without crumbs.
std::vector<Piece> side(const Plane& ink, const std::vector<int>& cut, bool of_left) {
  Plane half(ink.width, ink.height);
  for (int y = 0; y < ink.height; ++y)
    for (int x = 0; x < ink.width; ++x)
      half.at(x, y) = ink.at(x, y) && (x <= cut[size_t(y)]) == of_left;
  std::vector<Piece> found = pieces(where_at_least(half, 1).get());
  int64_t largest = 0;
  for (const Piece& p : found) largest = std::max(largest, p.area);
  std::erase_if(found, [&](const Piece& p) { return p.area * 10 < largest; });
  return found;
}

}  // namespace

Group group_of(std::vector<Piece> strokes) {
  Group group{strokes.front().box, {}};
  for (const Piece& s : strokes) group.box = united(group.box, s.box);
  group.strokes = std::move(strokes);
  return group;
}

std::vector<Group> join_strokes(std::vector<Piece> strokes) {
  if (strokes.empty()) return {};
  const int height = usual_height(strokes);
  std::vector<Group> groups;
  for (Piece& s : strokes) {
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
  const int full = usual_height(groups);
  std::erase_if(groups, [&](const Group& g) { return g.box.height * 3 < full; });
  return groups;
}

std::vector<Group> split_touching(const Group& group) {
  if (group.box.width < group.box.height) return {};  // H, U and V come apart as 11
  const Plane ink = silhouette(group);
  int64_t crossed = 0;
  const std::vector<int> cut = cheapest_cut(ink, &crossed);
  if (double(crossed) > 3 * line_width(ink)) return {};
  std::vector<Group> parts;
  for (const bool of_left : {true, false}) {
    std::vector<Piece> half = side(ink, cut, of_left);
    if (half.empty()) return {};
    for (Piece& p : half) {
      p.box.x += group.box.x - 1;
      p.box.y += group.box.y - 1;
    }
    Group part = group_of(std::move(half));
    if (part.box.height * 2 < group.box.height) return {};
    std::vector<Group> more;
    if (part.box.width * 10 > part.box.height * 11 && part.box.width * 5 < group.box.width * 4)
      more = split_touching(part);
    if (more.empty())
      parts.push_back(std::move(part));
    else
      std::move(more.begin(), more.end(), std::back_inserter(parts));
  }
  return parts;
}

Plane silhouette(const Group& group) {
  Plane ink(group.box.width + 2, group.box.height + 2);
  for (const Piece& s : group.strokes)
    for (int y = s.box.y; y < bottom(s.box); ++y)
      for (int x = s.box.x; x < right(s.box); ++x)
        if (s.has(x, y)) ink.at(x - group.box.x + 1, y - group.box.y + 1) = 255;
  return ink;
}

}  // namespace mnist
