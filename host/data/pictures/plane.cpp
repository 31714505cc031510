#include "host/data/pictures/plane.h"

#include "host/error.h"

namespace mnist {

PixPtr owned(PIX* pix) {
  if (pix == nullptr) throw Error(ExitCode::kInternal, "no memory for the picture");
  return PixPtr(pix);
}

Plane to_plane(PIX* pix) {
  Plane plane(pixGetWidth(pix), pixGetHeight(pix));
  const bool bits = pixGetDepth(pix) == 1;
  const int words = pixGetWpl(pix);
  const l_uint32* line = pixGetData(pix);
  uint8_t* out = plane.pixels.data();
  for (int y = 0; y < plane.height; ++y, line += words)
    for (int x = 0; x < plane.width; ++x)
      *out++ = uint8_t(bits ? GET_DATA_BIT(line, x) : GET_DATA_BYTE(line, x));
  return plane;
}

PixPtr to_pix(const Plane& plane) {
  PixPtr pix = owned(pixCreate(plane.width, plane.height, 8));
  const int words = pixGetWpl(pix.get());
  l_uint32* line = pixGetData(pix.get());
  const uint8_t* in = plane.pixels.data();
  for (int y = 0; y < plane.height; ++y, line += words)
    for (int x = 0; x < plane.width; ++x) SET_DATA_BYTE(line, x, *in++);
  return pix;
}

PixPtr where_at_least(const Plane& plane, int level) {
  PixPtr pix = owned(pixCreate(plane.width, plane.height, 1));
  const int words = pixGetWpl(pix.get());
  l_uint32* line = pixGetData(pix.get());
  const uint8_t* in = plane.pixels.data();
  for (int y = 0; y < plane.height; ++y, line += words)
    for (int x = 0; x < plane.width; ++x)
      if (*in++ >= level) SET_DATA_BIT(line, x);
  return pix;
}

}  // namespace mnist
