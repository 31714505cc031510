// Grey levels to ink: how much darker (or lighter) than the paper each pixel is.
#pragma once

#include "host/data/pictures/picture_digits.h"
#include "host/data/pictures/plane.h"

namespace mnist {

struct InkPlane {
  Plane ink;      // 0 = as the paper around it, 255 = black on white, or white on black
  Plane sheet;    // 1 on the sheet of paper that the picture shows; empty: all of it is paper
  int noise = 0;  // standard deviation of the paper's grain, in the same levels
};

// Shading that changes slowly is taken for the paper's. Ink::kAuto: the paper is what the border of
// the picture shows. On an even background without grain the ink is exact.
InkPlane find_ink(const Plane& grey, Ink which);

}  // namespace mnist
