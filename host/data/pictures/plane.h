// Eight-bit pictures as plain rows, and their way to and from Leptonica.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "host/data/pictures/pix.h"

namespace mnist {

struct Plane {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;  // [height,width]

  Plane() = default;
  Plane(int w, int h, uint8_t value = 0)
      : width(w), height(h), pixels(size_t(w) * size_t(h), value) {}
  uint8_t& at(int x, int y) { return pixels[size_t(y) * size_t(width) + size_t(x)]; }
  uint8_t at(int x, int y) const { return pixels[size_t(y) * size_t(width) + size_t(x)]; }
};

Plane to_plane(PIX* pix);                              // of 8 bits per pixel, or of 1 (as 0 and 1)
PixPtr to_pix(const Plane& plane);                     // the same
PixPtr where_at_least(const Plane& plane, int level);  // 1 bit per pixel

// Throws Error(kInternal) where Leptonica returned no picture, which means that memory ran out.
PixPtr owned(PIX* pix);

}  // namespace mnist
