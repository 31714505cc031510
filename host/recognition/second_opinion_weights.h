// The weights of the second opinion, made by tools/lab/second_opinion.py.
#pragma once

#include <cstdint>
#include <span>

namespace mnist {

// As `train --arch` takes it.
extern const char* const kSecondOpinionArch;

// Parameter by parameter in the order of Model::parameters; a weight is `scale` times its number.
struct ScaledWeights {
  float scale;
  std::span<const int8_t> numbers;
};
std::span<const ScaledWeights> second_opinion_weights();

}  // namespace mnist
