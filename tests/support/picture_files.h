// Pictures that the tests draw, as files of every kind.
#pragma once

#include <png.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mnist::test {

using Bytes = std::vector<uint8_t>;

// Grey levels that rise along the rows and down the columns, [height,width].
Bytes slope(int width, int height);
// `count` times `color`.
Bytes filled(size_t count, const Bytes& color);

struct PngKind {
  int width, height, color_type, bit_depth;
  bool interlaced = false;
  std::vector<png_color> palette = {};
  Bytes palette_alpha = {};
  std::optional<int> transparent_gray = {};
};
// `rows`: as PNG packs them, one after the other.
Bytes encode_png(const PngKind& kind, Bytes rows);

enum class JpegColors { kGrey, kYcc, kRgb, kCmyk, kYcck };
// `pixels` [height,width,channels]: 1, 3 or, of the printing colours, 4 channels.
Bytes encode_jpeg(int width, int height, JpegColors colors, bool progressive, Bytes pixels);

// With a palette of 256 grey levels; the one that is transparent, if any. `pixels` [height,width].
Bytes encode_gif(int width, int height, const Bytes& pixels,
                 std::optional<uint8_t> transparent = {});

// `pixels` [height,width,4].
enum class LeptonicaFormat { kWebp, kTiff };
Bytes encode_rgba(LeptonicaFormat format, int width, int height, const Bytes& pixels);

// `pixels` [height,width], 8 bits in two strips, at the end of the file; or with a palette of grey
// levels behind them.
Bytes encode_tiff(int width, int height, const Bytes& pixels, bool palette);

// `pixels` [height,width]. 8 bits with a palette of grey levels.
Bytes encode_bmp(int width, int height, const Bytes& pixels);
// A BMP file of `bits` 16 to 32 a pixel; masks (red, green, blue, alpha) or none.
Bytes encode_color_bmp(int width, int height, int bits, const std::vector<uint32_t>& masks,
                       const std::vector<uint32_t>& pixels, bool top_down = false);

// An EXIF block that says no more than which way up the camera was.
Bytes exif_block(int orientation, bool big_endian);
// The file (JPEG, PNG, lossless WebP, TIFF of encode_rgba()) with an orientation put in.
Bytes with_orientation(const Bytes& file, int orientation, bool big_endian = true);

// A small file of every kind that is read, and its name.
std::vector<std::pair<std::string, Bytes>> every_kind();

}  // namespace mnist::test
