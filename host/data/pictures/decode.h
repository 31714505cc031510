// The bytes of a picture file to grey levels.
#pragma once

#include <cstdint>
#include <span>

#include "host/data/pictures/pix.h"

namespace mnist {

struct DecodedPicture {
  PixPtr grey;                // 8 bits; upright; may be smaller than the picture in the file
  int width = 0, height = 0;  // of the picture as viewed, at full size
};

// Pictures with more pixels than this on their longer side may come smaller, never below it.
inline constexpr int kEnoughPixels = 2000;

// PNG, JPEG, GIF and TIFF (the first picture), BMP, WebP, PNM. What is transparent becomes paper:
// white, or black where only light ink is opaque. To be called in a Sandbox: Leptonica's decoders
// and those below them meet foreign bytes here. Throws Error(kBadInput): damaged (also where only
// the end is missing), of another kind, or above 64 million pixels; the text continues "FILE: ".
DecodedPicture decode_picture(std::span<const uint8_t> file);

}  // namespace mnist
