// Random test data, reproducible: everything follows from Catch's --rng-seed, which a failing run
// prints, and from the number of the generator.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/support/catch.h"

namespace mnist {

class Random {
 public:
  // SplitMix64 (Steele, Lea, Flood 2014).
#if CATCH_VERSION_MAJOR >= 3
  explicit Random(uint64_t number = 0) : state_((uint64_t(Catch::getSeed()) << 20) + number) {}
#else
  explicit Random(uint64_t number = 0) : state_((uint64_t(Catch::rngSeed()) << 20) + number) {}
#endif

  // Reproducible by its own seed alone.
  static Random seeded(uint64_t seed) {
    Random random;
    random.state_ = seed;
    return random;
  }

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // In [low, high].
  int integer(int low, int high) {
    return low + int(next() % uint64_t(int64_t(high) - low + 1));
  }
  // In [low, high).
  float real(float low, float high) {
    return low + (high - low) * (float(next() >> 40) * 0x1p-24f);
  }

  std::vector<float> reals(size_t size, float low = -1, float high = 1) {
    std::vector<float> values(size);
    for (float& value : values) value = real(low, high);
    return values;
  }
  // Small whole numbers, whose products and sums float arithmetic gets exactly right in any order.
  std::vector<float> whole(size_t size, int low = -4, int high = 4) {
    std::vector<float> values(size);
    for (float& value : values) value = float(integer(low, high));
    return values;
  }
  std::vector<uint8_t> bytes(size_t size, int low = 0, int high = 255) {
    std::vector<uint8_t> values(size);
    for (uint8_t& value : values) value = uint8_t(integer(low, high));
    return values;
  }
  // What a ReLU gives: about half of the values are zero. As a gate, also with negative zeros.
  std::vector<float> rectified(size_t size) {
    std::vector<float> values = reals(size);
    for (float& value : values)
      if (value < 0) value = integer(0, 1) ? 0.f : -0.f;
    return values;
  }

 private:
  uint64_t state_;
};

}  // namespace mnist
