// What the readers of single formats share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "host/data/pictures/pix.h"

namespace mnist {

using Bytes = std::span<const uint8_t>;

inline constexpr uint64_t kMaxPixels = 64'000'000;

// Throws Error(kBadInput): "is PROBLEM". The callers put the file's name before it.
[[noreturn]] void refuse(const std::string& problem);
// `format`: "a PNG picture".
[[noreturn]] void refuse_damaged(const std::string& format);

// Throws Error(kBadInput) unless there are 1 to 64 million pixels.
void check_size(uint64_t width, uint64_t height);
// A black, transparent picture of 32 bits a pixel, see pixel(). Checks the size.
PixPtr make_color(uint64_t width, uint64_t height);

void make_opaque(PIX* color);

inline uint32_t pixel(uint32_t red, uint32_t green, uint32_t blue, uint32_t alpha = 255) {
  return red << 24 | green << 16 | blue << 8 | alpha;
}
inline uint32_t* row_of(PIX* pix, int y) {
  return pixGetData(pix) + ptrdiff_t(y) * pixGetWpl(pix);
}

// Unsigned numbers in a file; what lies beyond its end is 0.
inline uint32_t number_at(Bytes file, size_t position, int bytes, bool big_endian) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    const size_t at = position + size_t(big_endian ? i : bytes - 1 - i);
    value = value << 8 | (at < file.size() ? file[at] : 0u);
  }
  return value;
}

}  // namespace mnist
