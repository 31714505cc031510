// Which way up a camera held a picture.
#pragma once

#include <cstdint>
#include <span>

namespace mnist {

// The EXIF orientation, 1 to 8, in the bytes of a JPEG, PNG or WebP file; 1, upright, where there
// is none or it makes no sense.
int exif_orientation(std::span<const uint8_t> file);

}  // namespace mnist
