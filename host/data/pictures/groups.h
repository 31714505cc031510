// Strokes to digits: which belong together, and where digits that touch come apart.
#pragma once

#include <vector>

#include "host/data/pictures/pieces.h"
#include "host/data/pictures/plane.h"

namespace mnist {

struct Group {
  Box box;
  std::vector<Piece> strokes;
};

Group group_of(std::vector<Piece> strokes);  // at least one

// What is much smaller than the rest, and no part of it, is left out: dots, commas, dashes.
std::vector<Group> join_strokes(std::vector<Piece> strokes);

// The digits, from left to right, if it is several that touch; empty where its shape rules that
// out.
std::vector<Group> split_touching(const Group& group);

// The ink of a group alone, as 0 and 255, with one empty pixel around its box.
Plane silhouette(const Group& group);

}  // namespace mnist
