// Labelled images in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace mnist {

// `count` images [count,pixels] and labels [count] that the caller keeps alive and unchanged.
struct Samples {
  const uint8_t* images = nullptr;
  const uint8_t* labels = nullptr;
  int64_t count = 0;
};

struct ImageSet {
  int64_t count = 0;
  int height = 0, width = 0;
  std::vector<uint8_t> images;  // [count,height,width], 0 = background, 255 = ink
  std::vector<uint8_t> labels;  // [count], 0..9

  Samples samples() const { return first_samples(count); }
  Samples first_samples(int64_t n) const { return {images.data(), labels.data(), n}; }
};

}  // namespace mnist
