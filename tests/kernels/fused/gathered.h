// What a batch that was gathered must hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/fused/fused.h"

namespace mnist::test {

// Row i of the batch has sample first + i of the epoch: the image and the label in row order[...]
// of theirs; rows after the epoch's end are zero. Empty if so; else what is wrong.
inline std::string gather_difference(const std::vector<uint8_t>& pixels,
                                     const std::vector<uint8_t>& classes,
                                     const std::vector<uint8_t>& images,
                                     const std::vector<uint8_t>& labels,
                                     const std::vector<int32_t>& order, int first) {
  constexpr size_t kPixels = MNIST_TARGET::fused::kPixels;
  if (pixels.size() != classes.size() * kPixels) return "sizes differ";
  for (size_t row = 0; row < classes.size(); ++row) {
    const size_t sample = size_t(first) + row;
    const bool real = sample < order.size();
    const size_t from = real ? size_t(order[sample]) : 0;
    if (classes[row] != (real ? labels[from] : 0)) return "label of row " + std::to_string(row);
    for (size_t i = 0; i < kPixels; ++i)
      if (pixels[row * kPixels + i] != (real ? images[from * kPixels + i] : 0))
        return "pixel " + std::to_string(i) + " of row " + std::to_string(row);
  }
  return "";
}

}  // namespace mnist::test
