// What was read on a picture, as text.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "host/recognition/recognizer.h"

namespace mnist::cli {

// One line for each line of writing, or one that says why there is none:
//   a.png: 7 (99.31 %)
//   b.png: 4 (61.02 %, or 9 38.54 %; unsure)
//   c.png: 42: 4 (99.90 %), 2 (98.11 %)
//   d.png: no digit: the picture is blank
std::string reading_text(const std::string& file, const PictureReading& reading);

// The images that the network saw, of characters from light to dense: ink is dense, so that it
// stands out as the text itself does, on dark and on light terminals.
std::string images_text(const PictureReading& reading);

}  // namespace mnist::cli
