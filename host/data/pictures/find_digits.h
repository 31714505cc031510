// A picture to the digits on it.
#pragma once

#include "host/data/pictures/picture_digits.h"
#include "host/data/pictures/pix.h"

namespace mnist {

// `grey`: 8 bits, upright. The boxes are in its pixels.
PictureDigits find_digits(PIX* grey, const FindOptions& options);

// Makes it of a picture of width x height what it was of a smaller one.
void scale_boxes(PictureDigits& found, int width, int height);

}  // namespace mnist
