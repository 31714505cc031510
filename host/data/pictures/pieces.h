// Connected pieces of a picture.
#pragma once

#include <cstdint>
#include <vector>

#include "host/data/pictures/picture_digits.h"
#include "host/data/pictures/plane.h"

namespace mnist {

struct Piece {
  Box box;
  int64_t area = 0;           // pixels
  double width = 0;           // of the line that it is, on average, in pixels
  std::vector<uint8_t> mask;  // [box.height,box.width], 1 where it is

  bool has(int x, int y) const {  // in pixels of the picture; false outside the box
    const int u = x - box.x, v = y - box.y;
    return u >= 0 && v >= 0 && u < box.width && v < box.height &&
           mask[size_t(v) * size_t(box.width) + size_t(u)] != 0;
  }
};

// What pieces() throws where the boxes of the pieces together cover the picture more than thirty
// times over: hatching, a maze. To look at each would take too long, and there are no digits.
struct TooIntricate {};

// Of a picture of 1 bit per pixel; pixels that touch at their corners are connected.
std::vector<Piece> pieces(PIX* binary);

// The mean width of the lines in a plane of 0 and others, in pixels.
double line_width(const Plane& plane);

int right(const Box& box);
int bottom(const Box& box);
int overlap(int begin_a, int end_a, int begin_b, int end_b);  // negative: the gap
Box united(const Box& a, const Box& b);

}  // namespace mnist
