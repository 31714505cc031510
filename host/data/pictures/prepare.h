// A digit's ink to the 28x28 pixels that MNIST would have made of it.
#pragma once

#include <array>
#include <cstdint>

#include "host/data/pictures/plane.h"

namespace mnist {

// `ink`: [height,width], 0 = background, at least one pixel above it. The bounding box of the ink
// is fitted into 20x20 by area, its aspect ratio kept, the brightest pixel made 255, and the centre
// of mass brought to the middle by whole pixels: the procedure of Y. LeCun's database as C. Yadav
// and L. Bottou recovered it ("Cold Case: The Lost MNIST Digits", 2019). An image of MNIST's test
// set comes back unchanged.
std::array<uint8_t, 28 * 28> prepare_digit(const Plane& ink);

// The same with strokes at least as wide as those of most of MNIST's digits: a fine pen's line
// would be fainter in 20x20 than any in MNIST. What is in MNIST's size already stays as it is.
Plane thickened(const Plane& ink);

}  // namespace mnist
