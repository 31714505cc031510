// An owner of Leptonica's pictures. Its names stay inside this room.
#pragma once

#include <allheaders.h>

#include <memory>

namespace mnist {

struct DestroyPix {
  void operator()(PIX* pix) const { pixDestroy(&pix); }
};
// Leptonica reports failure by returning no picture.
using PixPtr = std::unique_ptr<PIX, DestroyPix>;

}  // namespace mnist
