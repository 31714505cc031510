// Draws on a picture what was read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "host/data/pictures/decode.h"
#include "host/data/pictures/picture_digits.h"

namespace mnist {

// The bytes of a PNG file, as large as `picture.grey`.
std::vector<uint8_t> draw_labels(const DecodedPicture& picture,
                                 std::span<const PictureLabel> labels);

}  // namespace mnist
