#include "tests/support/picture_files.h"

#include <allheaders.h>
#include <zlib.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

// This one needs <cstdio>.
#include <jpeglib.h>

namespace mnist::test {
namespace {

void append(Bytes& out, const Bytes& more) {
  out.insert(out.end(), more.begin(), more.end());
}

void append_text(Bytes& out, const std::string& text) {
  out.insert(out.end(), text.begin(), text.end());
}

void append_number(Bytes& out, uint32_t value, int bytes, bool big_endian) {
  for (int i = 0; i < bytes; ++i)
    out.push_back(static_cast<uint8_t>(value >> 8 * (big_endian ? bytes - 1 - i : i)));
}

void append_png(png_structp png, png_bytep data, size_t size) {
  auto& out = *static_cast<Bytes*>(png_get_io_ptr(png));
  out.insert(out.end(), data, data + size);
}

Bytes png_chunk(const std::string& kind, const Bytes& data) {
  Bytes out;
  out.reserve(data.size() + 12);  // or GCC 12 sees overflows that are not there
  append_number(out, static_cast<uint32_t>(data.size()), 4, true);
  append_text(out, kind);
  append(out, data);
  const auto sum = crc32(0, out.data() + 4, static_cast<uInt>(out.size() - 4));
  append_number(out, static_cast<uint32_t>(sum), 4, true);
  return out;
}

Bytes insert(const Bytes& file, size_t position, const Bytes& what) {
  Bytes out(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(position));
  append(out, what);
  out.insert(out.end(), file.begin() + static_cast<std::ptrdiff_t>(position), file.end());
  return out;
}

// The extended form of a simple WebP file: a VP8X chunk, the picture, an EXIF chunk.
Bytes webp_with_exif(const Bytes& file, const Bytes& exif, int width, int height, bool alpha) {
  constexpr uint32_t kHasExif = 0x08, kHasAlpha = 0x10;
  Bytes body;
  append_text(body, "WEBPVP8X");
  append_number(body, 10, 4, false);
  append_number(body, kHasExif | (alpha ? kHasAlpha : 0), 4, false);
  append_number(body, static_cast<uint32_t>(width - 1), 3, false);
  append_number(body, static_cast<uint32_t>(height - 1), 3, false);
  body.insert(body.end(), file.begin() + 12, file.end());
  append_text(body, "EXIF");
  append_number(body, static_cast<uint32_t>(exif.size()), 4, false);
  append(body, exif);
  Bytes out;
  append_text(out, "RIFF");
  append_number(out, static_cast<uint32_t>(body.size()), 4, false);
  append(out, body);
  return out;
}

// What `write(&data, &size, pix)` gives; the picture is destroyed.
template <typename Write>
Bytes written(PIX* pix, const Write& write) {
  l_uint8* data = nullptr;
  size_t size = 0;
  const int failed = write(&data, &size, pix);
  pixDestroy(&pix);
  if (failed) throw std::runtime_error("Leptonica cannot write a picture");
  Bytes out(data, data + size);
  free(data);
  return out;
}

}  // namespace

Bytes slope(int width, int height) {
  Bytes out;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      out.push_back(static_cast<uint8_t>((x * 150) / width + (y * 100) / height));
  return out;
}

Bytes filled(size_t count, const Bytes& color) {
  Bytes out;
  while (out.size() < count * color.size()) append(out, color);
  return out;
}

Bytes encode_png(const PngKind& kind, Bytes rows) {
  Bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  if (setjmp(png_jmpbuf(png))) std::abort();
  png_set_write_fn(png, &out, append_png, nullptr);
  png_set_IHDR(png, info, kind.width, kind.height, kind.bit_depth, kind.color_type,
               kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!kind.palette.empty())
    png_set_PLTE(png, info, kind.palette.data(), static_cast<int>(kind.palette.size()));
  if (!kind.palette_alpha.empty())
    png_set_tRNS(png, info, kind.palette_alpha.data(), static_cast<int>(kind.palette_alpha.size()),
                 nullptr);
  if (kind.transparent_gray) {
    png_color_16 color{};
    color.gray = static_cast<png_uint_16>(*kind.transparent_gray);
    png_set_tRNS(png, info, nullptr, 0, &color);
  }
  png_write_info(png, info);
  std::vector<png_bytep> pointers;
  for (int y = 0; y < kind.height; ++y)
    pointers.push_back(rows.data() + rows.size() / kind.height * y);
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

Bytes encode_jpeg(int width, int height, JpegColors colors, bool progressive, Bytes pixels) {
  struct Spaces {
    J_COLOR_SPACE in, stored;
    int channels;
  };
  constexpr Spaces kSpaces[] = {{JCS_GRAYSCALE, JCS_GRAYSCALE, 1},
                                {JCS_RGB, JCS_YCbCr, 3},
                                {JCS_RGB, JCS_RGB, 3},
                                {JCS_CMYK, JCS_CMYK, 4},
                                {JCS_CMYK, JCS_YCCK, 4}};
  const Spaces spaces = kSpaces[static_cast<int>(colors)];
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &data, &size);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.input_components = spaces.channels;
  jpeg.in_color_space = spaces.in;
  jpeg_set_defaults(&jpeg);
  jpeg_set_colorspace(&jpeg, spaces.stored);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = pixels.data() + size_t(jpeg.next_scanline) * width * spaces.channels;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  Bytes out(data, data + size);
  free(data);
  return out;
}

Bytes encode_gif(int width, int height, const Bytes& pixels, std::optional<uint8_t> transparent) {
  PIX* pix = pixCreate(width, height, 8);
  PIXCMAP* palette = pixcmapCreate(8);
  for (int grey = 0; grey < 256; ++grey) pixcmapAddColor(palette, grey, grey, grey);
  pixSetColormap(pix, palette);
  for (int i = 0; i < width * height; ++i) pixSetPixel(pix, i % width, i / width, pixels[i]);
  const Bytes file = written(pix, pixWriteMemGif);
  constexpr size_t kFirstBlock = 13 + 3 * 256;
  return transparent ? insert(file, kFirstBlock, {0x21, 0xf9, 4, 1, 0, 0, *transparent, 0}) : file;
}

Bytes encode_rgba(LeptonicaFormat format, int width, int height, const Bytes& pixels) {
  PIX* pix = pixCreate(width, height, 32);
  pixSetSpp(pix, 4);
  for (int i = 0; i < width * height; ++i) {
    l_uint32 value = 0;
    const uint8_t* in = &pixels[size_t(i) * 4];
    composeRGBAPixel(in[0], in[1], in[2], in[3], &value);
    pixSetPixel(pix, i % width, i / width, value);
  }
  if (format == LeptonicaFormat::kTiff)
    return written(pix, [](l_uint8** data, size_t* size, PIX* from) {
      return pixWriteMemTiff(data, size, from, IFF_TIFF_LZW);
    });
  return written(pix, [](l_uint8** data, size_t* size, PIX* from) {
    return pixWriteMemWebP(data, size, from, 100, /*lossless=*/1);
  });
}

Bytes encode_tiff(int width, int height, const Bytes& pixels, bool palette) {
  constexpr uint32_t kShort = 3, kBlackIsZero = 1, kPalette = 3, kColors = 256;
  const auto size = static_cast<uint32_t>(pixels.size());
  const uint32_t entries = palette ? 9 : 8, pixels_at = 8 + 2 + entries * 12 + 4;
  const auto strip_rows = static_cast<uint32_t>(height + 1) / 2;  // of two strips
  const uint32_t strip = strip_rows * static_cast<uint32_t>(width);
  Bytes out;
  append_text(out, "II");
  append_number(out, 42, 2, false);
  append_number(out, 8, 4, false);
  append_number(out, entries, 2, false);
  const auto entry = [&](uint32_t tag, uint32_t count, uint32_t value) {
    append_number(out, tag, 2, false);
    append_number(out, kShort, 2, false);
    append_number(out, count, 4, false);
    append_number(out, value, 4, false);
  };
  entry(256, 1, static_cast<uint32_t>(width));
  entry(257, 1, static_cast<uint32_t>(height));
  entry(258, 1, 8);  // bits a sample
  entry(259, 1, 1);  // no compression
  entry(262, 1, palette ? kPalette : kBlackIsZero);
  entry(273, 2, pixels_at | (pixels_at + strip) << 16);
  entry(278, 1, strip_rows);
  entry(279, 2, strip | (size - strip) << 16);
  if (palette) entry(320, 3 * kColors, pixels_at + size);
  append_number(out, 0, 4, false);  // no further picture
  append(out, pixels);
  if (palette)
    for (uint32_t i = 0; i < 3 * kColors; ++i) append_number(out, i % kColors * 257, 2, false);
  return out;
}

Bytes encode_bmp(int width, int height, const Bytes& pixels) {
  const int row_bytes = (width + 3) / 4 * 4;
  Bytes out;
  append_text(out, "BM");
  for (const int value : {1078 + row_bytes * height, 0, 1078, 40, width, height})
    append_number(out, static_cast<uint32_t>(value), 4, false);
  append_number(out, 1, 2, false);
  append_number(out, 8, 2, false);
  for (int i = 0; i < 6; ++i) append_number(out, 0, 4, false);
  for (uint32_t grey = 0; grey < 256; ++grey) append_number(out, grey * 0x10101, 4, false);
  for (int y = height - 1; y >= 0; --y)
    for (int x = 0; x < row_bytes; ++x) out.push_back(x < width ? pixels[y * width + x] : 0);
  return out;
}

Bytes encode_color_bmp(int width, int height, int bits, const std::vector<uint32_t>& masks,
                       const std::vector<uint32_t>& pixels, bool top_down) {
  constexpr int kHeader = 108;
  const int row_bytes = (width * bits + 31) / 32 * 4;
  Bytes out;
  append_text(out, "BM");
  for (const int value : {14 + kHeader + row_bytes * height, 0, 14 + kHeader, kHeader, width,
                          top_down ? -height : height})
    append_number(out, static_cast<uint32_t>(value), 4, false);
  append_number(out, 1, 2, false);
  append_number(out, static_cast<uint32_t>(bits), 2, false);
  append_number(out, masks.empty() ? 0 : 3, 4, false);
  for (int i = 0; i < 5; ++i) append_number(out, 0, 4, false);
  for (const uint32_t mask : masks) append_number(out, mask, 4, false);
  out.resize(14 + kHeader);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x)
      append_number(out, pixels[(top_down ? y : height - 1 - y) * width + x], bits / 8, false);
    out.resize(out.size() + row_bytes - width * (bits / 8));
  }
  return out;
}

Bytes exif_block(int orientation, bool big_endian) {
  Bytes out;
  append_text(out, big_endian ? "MM" : "II");
  append_number(out, 42, 2, big_endian);
  append_number(out, 8, 4, big_endian);
  append_number(out, 2, 2, big_endian);  // entries
  struct Entry {
    uint32_t tag, value;
  };
  for (const Entry entry : {Entry{0x10f, 0}, Entry{0x112, static_cast<uint32_t>(orientation)}}) {
    append_number(out, entry.tag, 2, big_endian);
    append_number(out, 3, 2, big_endian);  // 16-bit numbers
    append_number(out, 1, 4, big_endian);
    append_number(out, entry.value, 2, big_endian);
    append_number(out, 0, 2, big_endian);
  }
  append_number(out, 0, 4, big_endian);
  return out;
}

Bytes with_orientation(const Bytes& file, int orientation, bool big_endian) {
  const Bytes exif = exif_block(orientation, big_endian);
  switch (file[0]) {
    case 0xff: {  // JPEG
      Bytes segment{0xff, 0xe1};
      append_number(segment, static_cast<uint32_t>(exif.size() + 8), 2, true);
      append_text(segment, std::string("Exif\0\0", 6));
      append(segment, exif);
      return insert(file, 2, segment);
    }
    case 0x89:  // PNG: after the first chunk
      return insert(file, 33, png_chunk("eXIf", exif));
    case 'R': {  // lossless WebP; sizes of 14 bits each after a signature
      const uint32_t bits = file[21] | file[22] << 8 | file[23] << 16 | uint32_t(file[24]) << 24;
      return webp_with_exif(file, exif, static_cast<int>(bits & 0x3fff) + 1,
                            static_cast<int>(bits >> 14 & 0x3fff) + 1, bits >> 28 & 1);
    }
    default: {  // TIFF
      Bytes out = file;
      const Bytes entry{0x12, 1, 3, 0, 1, 0, 0, 0, 1, 0};
      const auto found = std::search(out.begin(), out.end(), entry.begin(), entry.end());
      if (found == out.end()) throw std::runtime_error("no orientation in the TIFF file");
      found[8] = static_cast<uint8_t>(orientation);
      return out;
    }
  }
}

std::vector<std::pair<std::string, Bytes>> every_kind() {
  constexpr int kWidth = 12, kHeight = 10, kPixels = kWidth * kHeight;
  const Bytes grey = slope(kWidth, kHeight), color = filled(kPixels, {200, 30, 90});
  Bytes rgba;
  for (int i = 0; i < kPixels; ++i)
    append(rgba, {static_cast<uint8_t>(i), 30, 90, static_cast<uint8_t>(i % 3 * 127)});
  Bytes opaque = rgba;
  for (size_t i = 3; i < opaque.size(); i += 4) opaque[i] = 255;
  Bytes pgm, ppm, pbm, plain, wide;
  append_text(pgm, "P5 12 10 255\n");
  append(pgm, grey);
  append_text(ppm, "P6 12 10 255\n");
  append(ppm, color);
  append_text(pbm, "P4 12 10\n");
  append(pbm, filled(10, {0xa5, 0xc0}));
  append_text(plain, "P2 3 2 255\n0 10 20\n30 40 7\n");
  append_text(wide, "P5 12 5 1000\n");
  for (int i = 0; i < kPixels / 2; ++i) append_number(wide, static_cast<uint32_t>(i * 16), 2, true);
  const std::vector<png_color> palette{{0, 0, 0}, {1, 2, 3}, {9, 9, 9}, {5, 5, 5}};
  std::vector<uint32_t> words(kPixels, 0x80c81e5a);
  return {
      {"grey.png", encode_png({kWidth, kHeight, PNG_COLOR_TYPE_GRAY, 8}, grey)},
      {"interlaced.png", encode_png({kWidth, kHeight, PNG_COLOR_TYPE_RGB, 8, true}, color)},
      {"alpha.png", encode_png({kWidth, kHeight, PNG_COLOR_TYPE_RGB_ALPHA, 8}, rgba)},
      {"16-bit.png", encode_png({kWidth, kHeight / 2, PNG_COLOR_TYPE_GRAY, 16}, grey)},
      {"palette.png",
       encode_png({4, 1, PNG_COLOR_TYPE_PALETTE, 2, false, palette, {0, 7}}, {0x1b})},
      {"turned.png",
       with_orientation(encode_png({kWidth, kHeight, PNG_COLOR_TYPE_GRAY, 8}, grey), 6)},
      {"grey.jpg", encode_jpeg(kWidth, kHeight, JpegColors::kGrey, false, grey)},
      {"progressive.jpg", encode_jpeg(kWidth, kHeight, JpegColors::kYcc, true, color)},
      {"cmyk.jpg", encode_jpeg(kWidth, kHeight, JpegColors::kCmyk, false, rgba)},
      {"turned.jpg",
       with_orientation(encode_jpeg(kWidth, kHeight, JpegColors::kYcc, false, color), 5, false)},
      {"grey.gif", encode_gif(kWidth, kHeight, grey)},
      {"transparent.gif", encode_gif(kWidth, kHeight, grey, grey[5])},
      {"alpha.webp", encode_rgba(LeptonicaFormat::kWebp, kWidth, kHeight, rgba)},
      {"turned.webp",
       with_orientation(encode_rgba(LeptonicaFormat::kWebp, kWidth, kHeight, opaque), 8)},
      {"alpha.tif", encode_rgba(LeptonicaFormat::kTiff, kWidth, kHeight, rgba)},
      {"grey.tif", encode_tiff(kWidth, kHeight, grey, false)},
      {"palette.tif", encode_tiff(kWidth, kHeight, grey, true)},
      {"grey.bmp", encode_bmp(kWidth, kHeight, grey)},
      {"alpha.bmp",
       encode_color_bmp(kWidth, kHeight, 32, {0xff0000, 0xff00, 0xff, 0xff000000}, words)},
      {"16-bit.bmp", encode_color_bmp(kWidth, kHeight, 16, {}, words)},
      {"grey.pgm", pgm},
      {"color.ppm", ppm},
      {"bitmap.pbm", pbm},
      {"plain.pgm", plain},
      {"16-bit.pgm", wide},
  };
}

}  // namespace mnist::test
