// Ink to the strokes of writing, set apart from what else a picture shows.
#pragma once

#include <vector>

#include "host/data/pictures/ink.h"
#include "host/data/pictures/pieces.h"

namespace mnist {

// Without ruled lines, frames, specks, shadows and edges.
std::vector<Piece> find_strokes(const InkPlane& ink);

}  // namespace mnist
