// Handwritten-looking digits drawn by a deterministic generator: strokes under a random affine map,
// with random thickness, jitter and smoothing, normalised as MNIST's are.
#pragma once

#include <cstdint>

#include "host/data/image_set.h"

namespace mnist {

// Digits [count,28,28]. Image and label i depend on (seed, i) alone and are the same bytes on every
// machine; every ten labels from a multiple of ten on hold each digit once.
// Throws Error kInternal if count < 0.
ImageSet synthetic_digits(int64_t count, uint64_t seed);

}  // namespace mnist
