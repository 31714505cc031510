// Philox4x32-10, the counter-based random number generator of Salmon, Moraes, Dror, Shaw: "Parallel
// random numbers: as easy as 1, 2, 3" (SC 2011). Ten rounds of multiplication and exchange turn a
// counter and a key into four words; equal inputs give equal words on every target. Plain constexpr
// C++, so that kernels and host share it.
#pragma once

#include <cstdint>

namespace mnist {

struct PhiloxWords {
  uint32_t x, y, z, w;
};

// Key words are (seed low, seed high ^ stream): `stream` separates the users of one seed.
constexpr PhiloxWords philox(uint64_t seed, uint32_t stream, uint64_t counter_low,
                             uint64_t counter_high) {
  PhiloxWords c{uint32_t(counter_low), uint32_t(counter_low >> 32), uint32_t(counter_high),
                uint32_t(counter_high >> 32)};
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32) ^ stream;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c.x;
    const uint64_t b = uint64_t(0xCD9E8D57u) * c.z;
    c = {uint32_t(b >> 32) ^ c.y ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c.w ^ k1, uint32_t(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// The top 24 bits as a multiple of 2^-24 in [0,1): exact in float.
constexpr float uniform01(uint32_t word) {
  return float(word >> 8) * 0x1p-24f;
}

// Streams of one seed. Parameters use kInitStream + index, dropout layers kDropoutStream + index.
inline constexpr uint32_t kShuffleStream = 0x10000000u;
inline constexpr uint32_t kInitStream = 0x20000000u;
inline constexpr uint32_t kDropoutStream = 0x30000000u;

}  // namespace mnist
