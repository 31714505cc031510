#include "host/data/pictures/plain_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "host/error.h"

namespace mnist {
namespace {

// --- BMP ----------------------------------------------------------------------------------------

// Where a colour's bits are within a pixel.
struct Channel {
  uint32_t mask = 0;

  uint32_t value(uint32_t bits) const {
    if (mask == 0) return 0;
    const int low = std::countr_zero(mask);
    const uint64_t highest = mask >> low;
    return uint32_t((uint64_t((bits & mask) >> low) * 255 + highest / 2) / highest);
  }
};

struct BmpHeader {
  uint32_t pixels;  // where in the file they begin
  uint32_t palette, palette_entry_bytes;
  int64_t width, height;
  bool top_down;
  uint32_t bits;
  Channel red, green, blue, alpha;
};

BmpHeader read_bmp_header(Bytes file) {
  const auto number = [&](size_t at, int bytes) { return number_at(file, at, bytes, false); };
  BmpHeader bmp{};
  bmp.pixels = number(10, 4);
  const uint32_t header_bytes = number(14, 4);
  const bool old = header_bytes == 12;  // OS/2's
  if (!old && (header_bytes < 40 || header_bytes > 124)) refuse_damaged("BMP");
  bmp.palette = 14 + header_bytes;
  bmp.palette_entry_bytes = old ? 3 : 4;
  bmp.width = old ? int64_t(number(18, 2)) : int32_t(number(18, 4));
  const int64_t height = old ? int64_t(number(20, 2)) : int32_t(number(22, 4));
  bmp.top_down = height < 0;
  bmp.height = std::abs(height);
  bmp.bits = number(old ? 24 : 28, 2);
  const uint32_t compression = old ? 0 : number(30, 4);
  constexpr uint32_t kBitFields = 3, kAlphaBitFields = 6;
  if (compression == kBitFields || compression == kAlphaBitFields) {
    bmp.red.mask = number(54, 4);
    bmp.green.mask = number(58, 4);
    bmp.blue.mask = number(62, 4);
    if (header_bytes >= 56 || compression == kAlphaBitFields) bmp.alpha.mask = number(66, 4);
  } else if (compression != 0) {
    refuse("is a compressed BMP picture, which is not read; save it as PNG");
  } else if (bmp.bits == 16) {
    bmp.red.mask = 0x7c00, bmp.green.mask = 0x3e0, bmp.blue.mask = 0x1f;
  } else {
    bmp.red.mask = 0xff0000, bmp.green.mask = 0xff00, bmp.blue.mask = 0xff;
  }
  if (bmp.width <= 0) refuse_damaged("BMP");
  return bmp;
}

// --- PNM ----------------------------------------------------------------------------------------

class PnmReader {
 public:
  explicit PnmReader(Bytes file)
      : kind_(file[1] - '0'),
        next_(reinterpret_cast<const char*>(file.data()) + 2),
        end_(next_ + file.size() - 2) {}

  PixPtr read() {
    const uint32_t width = number(), height = number();
    if (!is_bitmap()) highest_ = number();
    if (highest_ < 1 || highest_ > 65535) refuse_damaged("PNM");
    if (!is_text() && next_ < end_) ++next_;  // the one blank that ends the header
    check_size(width, height);
    const uint64_t row = is_bitmap() && !is_text() ? (uint64_t(width) + 7) / 8
                                                   : uint64_t(width) * channels() * sample_bytes();
    // Even as text, a sample takes a byte.
    if (row * height > uint64_t(end_ - next_)) refuse_damaged("PNM");
    PixPtr pix = make_color(width, height);
    for (uint32_t y = 0; y < height; ++y) {
      bits_left_ = 0;
      for (uint32_t x = 0; x < width; ++x) row_of(pix.get(), int(y))[x] = read_pixel();
    }
    return pix;
  }

 private:
  bool is_text() const { return kind_ <= 3; }
  bool is_bitmap() const { return kind_ == 1 || kind_ == 4; }
  uint32_t channels() const { return kind_ == 3 || kind_ == 6 ? 3 : 1; }
  uint32_t sample_bytes() const { return !is_text() && highest_ > 255 ? 2 : 1; }

  uint32_t read_pixel() {
    if (channels() == 3) {
      const uint32_t red = level(), green = level();
      return pixel(red, green, level());
    }
    const uint32_t grey = is_bitmap() ? (bit() ? 0 : 255) : level();
    return pixel(grey, grey, grey);
  }

  void skip_blanks() {
    while (next_ < end_) {
      if (*next_ == '#')
        next_ = std::find(next_, end_, '\n');
      else if (*next_ == ' ' || (*next_ >= '\t' && *next_ <= '\r'))
        ++next_;
      else
        return;
    }
  }

  uint32_t number() {
    skip_blanks();
    uint32_t value = 0;
    const auto [stop, error] = std::from_chars(next_, end_, value);
    if (error != std::errc()) refuse_damaged("PNM");
    next_ = stop;
    return value;
  }

  uint8_t byte() {
    if (next_ == end_) refuse_damaged("PNM");
    return static_cast<uint8_t>(*next_++);
  }

  bool bit() {
    if (is_text()) {  // the digits need no blanks between them
      skip_blanks();
      const uint8_t digit = byte();
      if (digit != '0' && digit != '1') refuse_damaged("PNM");
      return digit == '1';
    }
    if (bits_left_ == 0) {
      bits_ = byte();
      bits_left_ = 8;
    }
    return bits_ >> --bits_left_ & 1;
  }

  uint32_t level() {
    uint32_t value = 0;
    if (is_text())
      value = number();
    else
      for (uint32_t i = 0; i < sample_bytes(); ++i) value = value << 8 | byte();
    if (value > highest_) refuse_damaged("PNM");
    return (value * 255 + highest_ / 2) / highest_;
  }

  int kind_;
  const char* next_;
  const char* end_;
  uint32_t highest_ = 1;
  uint32_t bits_ = 0;
  int bits_left_ = 0;
};

}  // namespace

PixPtr read_bmp(Bytes file) {
  const BmpHeader bmp = read_bmp_header(file);
  check_size(uint64_t(bmp.width), uint64_t(bmp.height));
  const uint64_t row_bytes = (uint64_t(bmp.width) * bmp.bits + 31) / 32 * 4;
  const bool known_bits = bmp.bits == 1 || bmp.bits == 2 || bmp.bits == 4 || bmp.bits == 8 ||
                          bmp.bits == 16 || bmp.bits == 24 || bmp.bits == 32;
  if (!known_bits || bmp.pixels + row_bytes * uint64_t(bmp.height) > file.size())
    refuse_damaged("BMP");

  std::vector<uint32_t> palette(bmp.bits <= 8 ? size_t(1) << bmp.bits : 0, pixel(0, 0, 0));
  for (size_t i = 0; i < palette.size(); ++i) {
    const size_t at = bmp.palette + i * bmp.palette_entry_bytes;
    if (at + 3 > bmp.pixels) break;  // a palette may be shorter
    palette[i] = pixel(file[at + 2], file[at + 1], file[at]);
  }

  PixPtr pix = make_color(uint64_t(bmp.width), uint64_t(bmp.height));
  bool has_alpha = false;
  for (int y = 0; y < bmp.height; ++y) {
    const int64_t row = bmp.top_down ? y : bmp.height - 1 - y;
    const Bytes in = file.subspan(bmp.pixels + uint64_t(row) * row_bytes, row_bytes);
    uint32_t* out = row_of(pix.get(), y);
    for (uint32_t x = 0; x < bmp.width; ++x) {
      if (bmp.bits <= 8) {
        const uint32_t first_bit = x * bmp.bits;
        out[x] =
            palette[in[first_bit / 8] >> (8 - bmp.bits - first_bit % 8) & ((1u << bmp.bits) - 1)];
        continue;
      }
      const uint32_t bits = number_at(in, size_t(x) * (bmp.bits / 8), int(bmp.bits / 8), false);
      has_alpha |= bmp.alpha.value(bits) != 0;
      out[x] = pixel(bmp.red.value(bits), bmp.green.value(bits), bmp.blue.value(bits),
                     bmp.alpha.value(bits));
    }
  }
  if (!has_alpha) make_opaque(pix.get());  // many programs leave these bits 0
  return pix;
}

PixPtr read_pnm(Bytes file) {
  return PnmReader(file).read();
}

}  // namespace mnist
