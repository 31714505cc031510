// Labelled images in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace mnist {

struct ImageSet {
  int64_t count = 0;
  int height = 0, width = 0;
  std::vector<uint8_t> images;  // [count,height,width], 0 = background, 255 = ink
  std::vector<uint8_t> labels;  // [count], 0..9
};

}  // namespace mnist
