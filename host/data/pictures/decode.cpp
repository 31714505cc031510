// Each format is read by its own library, called so that a damaged file is refused, not half shown:
// Leptonica's readers of PNG, TIFF, BMP and PNM would lose transparency, errors or bits.
#include "host/data/pictures/decode.h"

#include <fmt/format.h>
#include <png.h>
#include <tiffio.h>

#include <algorithm>
#include <bit>
#include <csetjmp>
#include <cstring>
#include <string_view>
#include <vector>

#include "host/data/pictures/exif.h"
#include "host/data/pictures/picture_bytes.h"
#include "host/data/pictures/plain_formats.h"
#include "host/error.h"
#include "host/os/file_bytes.h"

namespace mnist {

void refuse(const std::string& problem) {
  throw Error(ExitCode::kBadInput, problem);
}

void refuse_damaged(const std::string& format) {
  refuse(fmt::format("is a damaged or incomplete {} picture; fetch it again, or save it anew",
                     format));
}

void check_size(uint64_t width, uint64_t height) {
  if (width == 0 || height == 0 || width > kMaxPixels / height)
    refuse(fmt::format("is {}x{}; pictures of 1 to {} million pixels are read", width, height,
                       kMaxPixels / 1'000'000));
}

PixPtr make_color(uint64_t width, uint64_t height) {
  check_size(width, height);
  PixPtr pix(pixCreate(int(width), int(height), 32));
  if (!pix) throw Error(ExitCode::kInternal, "there is not enough memory for a picture");
  pixSetSpp(pix.get(), 4);
  return pix;
}

void make_opaque(PIX* color) {
  for (int y = 0; y < pixGetHeight(color); ++y)
    for (int x = 0; x < pixGetWidth(color); ++x) row_of(color, y)[x] |= 255;
}

namespace {

static_assert(std::endian::native == std::endian::little, "for the order of colours in a pixel");

// As stored in the file, before it is turned upright; 8 bits of grey or 32 of colour.
struct Stored {
  PixPtr pix;
  int width = 0, height = 0;  // in the file: `pix` may be smaller
  int orientation = 1;        // as EXIF counts them

  Stored(PixPtr pixels, Bytes file)
      : pix(std::move(pixels)),
        width(pixGetWidth(pix.get())),
        height(pixGetHeight(pix.get())),
        orientation(exif_orientation(file)) {}
};

// How many times smaller a picture may be made: 1, 2, 4 or 8. A long strip keeps its height.
int reduction(int width, int height) {
  int factor = 1;
  while (factor < 8 && std::max(width, height) >= 2 * factor * kEnoughPixels &&
         std::min(width, height) >= factor * kEnoughPixels)
    factor *= 2;
  return factor;
}

// libpng reports errors by longjmp: `work` calls it and owns nothing. False: it failed.
template <typename Work>
bool succeeds(png_structp png, const Work& work) {
  if (setjmp(png_jmpbuf(png))) return false;
  work();
  return true;
}

struct PngReader {
  Bytes rest;
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit PngReader(Bytes file) : rest(file) {
    const auto stop = [](png_structp reader, png_const_charp) { png_longjmp(reader, 1); };
    const auto ignore = [](png_structp, png_const_charp) {};
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, stop, ignore);
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) throw Error(ExitCode::kInternal, "libpng cannot start");
    png_set_read_fn(png, this, read);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  static void read(png_structp png, png_bytep out, size_t count) {
    auto& reader = *static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > reader.rest.size()) png_error(png, "the file ends too early");
    std::memcpy(out, reader.rest.data(), count);
    reader.rest = reader.rest.subspan(count);
  }
};

Stored read_png(Bytes file) {
  PngReader reader(file);
  png_structp png = reader.png;
  if (!succeeds(png, [&] { png_read_info(png, reader.info); })) refuse_damaged("PNG");
  PixPtr pix =
      make_color(png_get_image_width(png, reader.info), png_get_image_height(png, reader.info));
  std::vector<png_bytep> rows;
  for (int y = 0; y < pixGetHeight(pix.get()); ++y)
    rows.push_back(reinterpret_cast<png_bytep>(row_of(pix.get(), y)));
  const bool complete = succeeds(png, [&] {
    png_set_expand(png);
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
    png_set_interlace_handling(png);
    png_read_update_info(png, reader.info);
    if (png_get_rowbytes(png, reader.info) != size_t(pixGetWpl(pix.get())) * 4)
      png_error(png, "its rows are not of four bytes a pixel");
    png_read_image(png, rows.data());
    png_read_end(png, nullptr);
  });
  if (!complete) refuse_damaged("PNG");
  pixEndianByteSwap(pix.get());
  return {std::move(pix), file};
}

Stored read_jpeg(Bytes file) {
  int width = 0, height = 0, samples = 0;
  if (readHeaderMemJpeg(file.data(), file.size(), &width, &height, &samples, nullptr, nullptr) != 0)
    refuse_damaged("JPEG");
  check_size(uint64_t(width), uint64_t(height));
  const bool printing_colors = samples == 4;  // these libjpeg cannot turn into grey
  PixPtr pix(pixReadMemJpeg(file.data(), file.size(), 0, reduction(width, height), nullptr,
                            printing_colors ? 0 : L_JPEG_READ_LUMINANCE));
  if (!pix) refuse_damaged("JPEG");
  if (printing_colors) make_opaque(pix.get());
  Stored stored(std::move(pix), file);
  stored.width = width;
  stored.height = height;
  return stored;
}

Stored read_webp(Bytes file) {
  constexpr uint8_t kAnimated = 2;
  if (number_at(file, 12, 4, true) == 0x56503858 /* VP8X */ &&
      (number_at(file, 20, 1, true) & kAnimated))
    refuse("is an animated WebP picture, which is not read; save one frame of it as PNG");
  int width = 0, height = 0, samples = 0;
  if (readHeaderMemWebP(file.data(), file.size(), &width, &height, &samples) != 0)
    refuse_damaged("WebP");
  check_size(uint64_t(width), uint64_t(height));
  PixPtr pix(pixReadMemWebP(file.data(), file.size()));
  if (!pix) refuse_damaged("WebP");
  return {std::move(pix), file};
}

// What Leptonica leaves out of a GIF file's first picture.
struct GifFrame {
  uint32_t width = 0, height = 0;
  int transparent = -1;  // the colour that is
};

GifFrame first_gif_frame(Bytes file) {
  const auto byte = [&](size_t at) { return number_at(file, at, 1, false); };
  const auto palette_bytes = [](uint32_t flags) {
    return flags & 0x80 ? 3u << ((flags & 7) + 1) : 0;
  };
  GifFrame frame;
  size_t position = 13 + palette_bytes(byte(10));
  constexpr uint32_t kExtension = 0x21, kGraphicControl = 0xf9, kImage = 0x2c;
  while (byte(position) == kExtension) {
    if (byte(position + 1) == kGraphicControl)
      frame.transparent = byte(position + 3) & 1 ? int(byte(position + 6)) : -1;
    position += 2;
    while (byte(position) != 0) position += 1 + byte(position);  // blocks, the last one empty
    ++position;
  }
  if (byte(position) != kImage) refuse_damaged("GIF");
  frame.width = number_at(file, position + 5, 2, false);
  frame.height = number_at(file, position + 7, 2, false);
  return frame;
}

Stored read_gif(Bytes file) {
  const GifFrame frame = first_gif_frame(file);
  check_size(frame.width, frame.height);
  const PixPtr indices(pixReadMemGif(file.data(), file.size()));
  if (!indices) refuse_damaged("GIF");
  if (frame.transparent >= 0) pixcmapSetAlpha(pixGetColormap(indices.get()), frame.transparent, 0);
  PixPtr pix(pixRemoveColormap(indices.get(), REMOVE_CMAP_WITH_ALPHA));
  if (!pix) refuse_damaged("GIF");
  return {std::move(pix), file};
}

// libtiff reads files through functions.
struct TiffSource {
  Bytes file;
  uint64_t position = 0;

  static TiffSource& of(thandle_t handle) { return *static_cast<TiffSource*>(handle); }
  static tmsize_t read(thandle_t handle, void* out, tmsize_t size) {
    TiffSource& source = of(handle);
    const uint64_t start = std::min<uint64_t>(source.position, source.file.size());
    const uint64_t count = std::min<uint64_t>(uint64_t(size), source.file.size() - start);
    std::memcpy(out, source.file.data() + start, count);
    source.position = start + count;
    return tmsize_t(count);
  }
  static tmsize_t write(thandle_t, void*, tmsize_t) { return 0; }
  static toff_t seek(thandle_t handle, toff_t offset, int whence) {
    TiffSource& source = of(handle);
    const uint64_t base = whence == SEEK_CUR   ? source.position
                          : whence == SEEK_END ? source.file.size()
                                               : 0;
    return source.position = base + offset;
  }
  static int close(thandle_t) { return 0; }
  static toff_t size(thandle_t handle) { return of(handle).file.size(); }
};

// libtiff goes on without a tag that lies beyond the end of the file, be it the palette.
thread_local bool tiff_misses_tag = false;

void on_tiff_warning(const char*, const char* format, va_list) {
  if (std::strstr(format, "IO error") != nullptr) tiff_misses_tag = true;
}

Stored read_tiff(Bytes file) {
  TIFFSetErrorHandler(nullptr);
  TIFFSetWarningHandler(on_tiff_warning);
  tiff_misses_tag = false;
  TiffSource source{file};
  const std::unique_ptr<TIFF, decltype(&TIFFClose)> tiff(
      TIFFClientOpen("picture", "rm", &source, TiffSource::read, TiffSource::write,
                     TiffSource::seek, TiffSource::close, TiffSource::size, nullptr, nullptr),
      TIFFClose);
  if (!tiff || tiff_misses_tag) refuse_damaged("TIFF");
  uint32_t width = 0, height = 0;
  TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height);
  uint16_t orientation = 1;
  TIFFGetFieldDefaulted(tiff.get(), TIFFTAG_ORIENTATION, &orientation);
  PixPtr pix = make_color(width, height);
  char why[1024] = "";
  if (!TIFFRGBAImageOK(tiff.get(), why))
    refuse("is a TIFF picture of a rare kind, which is not read; save it as PNG");
  constexpr int kStopAtErrors = 1;
  if (!TIFFReadRGBAImageOriented(tiff.get(), width, height, pixGetData(pix.get()), orientation,
                                 kStopAtErrors))
    refuse_damaged("TIFF");
  pixEndianByteSwap(pix.get());
  Stored stored(std::move(pix), {});
  if (orientation >= 1 && orientation <= 8) stored.orientation = orientation;
  return stored;
}

struct Format {
  std::string_view magic;
  size_t position;  // of the magic
  Stored (*read)(Bytes file);
};

using namespace std::string_view_literals;

constexpr auto kBmp = [](Bytes file) { return Stored(read_bmp(file), {}); };
constexpr auto kPnm = [](Bytes file) { return Stored(read_pnm(file), {}); };

constexpr Format kFormats[] = {
    {"\x89PNG\r\n\x1a\n"sv, 0, read_png},
    {"\xff\xd8\xff"sv, 0, read_jpeg},
    {"GIF8"sv, 0, read_gif},
    {"WEBP"sv, 8, read_webp},
    {"II*\0"sv, 0, read_tiff},
    {"MM\0*"sv, 0, read_tiff},
    {"II+\0"sv, 0, read_tiff},
    {"MM\0+"sv, 0, read_tiff},
    {"BM"sv, 0, kBmp},
    {"P1"sv, 0, kPnm},
    {"P2"sv, 0, kPnm},
    {"P3"sv, 0, kPnm},
    {"P4"sv, 0, kPnm},
    {"P5"sv, 0, kPnm},
    {"P6"sv, 0, kPnm},
};

Stored read_stored(Bytes file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  for (const Format& format : kFormats)
    if (text.size() > format.position && text.substr(format.position).starts_with(format.magic))
      return format.read(file);
  const std::string kind = describe_bytes(file);
  if (kind.ends_with("HEIC picture") || kind.ends_with("AVIF picture"))
    refuse(
        fmt::format("is {}, which is not read; save it as JPEG (an iPhone takes its photos as "
                    "JPEG under Settings, Camera, Formats, Most Compatible)",
                    kind));
  refuse(
      fmt::format("is no picture that can be read: it begins with {}; PNG, JPEG, GIF, WebP, "
                  "TIFF, BMP and PNM are possible",
                  kind));
}

// --- grey ---------------------------------------------------------------------------------------

// ITU-R BT.601 luma, as JPEG's Y.
uint32_t luma(uint32_t color) {
  return (299 * (color >> 24) + 587 * (color >> 16 & 255) + 114 * (color >> 8 & 255) + 500) / 1000;
}

// What shows through where the picture is transparent. Light ink needs black paper: where a good
// part is transparent, and of the rest next to nothing is dark.
uint32_t paper(PIX* color) {
  uint64_t opaque = 0, dark = 0;  // in units of 1/255 pixel
  for (int y = 0; y < pixGetHeight(color); ++y)
    for (int x = 0; x < pixGetWidth(color); ++x) {
      const uint32_t pixel = row_of(color, y)[x], alpha = pixel & 255;
      opaque += alpha;
      if (luma(pixel) < 128) dark += alpha;
    }
  const uint64_t all = uint64_t(pixGetWidth(color)) * uint64_t(pixGetHeight(color)) * 255;
  const bool mostly_opaque = opaque * 4 > all * 3;
  return mostly_opaque || dark * 500 > opaque ? 255 : 0;
}

PixPtr to_grey(PIX* color) {
  const uint32_t behind = paper(color);
  PixPtr grey(pixCreate(pixGetWidth(color), pixGetHeight(color), 8));
  if (!grey) throw Error(ExitCode::kInternal, "there is not enough memory for a picture");
  for (int y = 0; y < pixGetHeight(color); ++y) {
    const uint32_t* in = row_of(color, y);
    uint32_t* out = row_of(grey.get(), y);
    for (int x = 0; x < pixGetWidth(color); ++x) {
      const uint32_t alpha = in[x] & 255;
      SET_DATA_BYTE(out, x, (luma(in[x]) * alpha + behind * (255 - alpha) + 127) / 255);
    }
  }
  return grey;
}

PixPtr upright(PixPtr pix, int orientation) {
  // A quarter turn clockwise or counter-clockwise or a half turn, then a mirror.
  constexpr int kTurns[] = {0, 0, 2, 0, 1, 1, 1, 3};
  const int turns = kTurns[orientation - 1];
  if (turns != 0) pix.reset(pixRotateOrth(pix.get(), turns));
  if (orientation == 2 || orientation == 5) pixFlipLR(pix.get(), pix.get());
  if (orientation == 4 || orientation == 7) pixFlipTB(pix.get(), pix.get());
  return pix;
}

}  // namespace

DecodedPicture decode_picture(Bytes file) {
  setMsgSeverity(L_SEVERITY_NONE);
  Stored stored = read_stored(file);
  PixPtr grey =
      pixGetDepth(stored.pix.get()) == 8 ? std::move(stored.pix) : to_grey(stored.pix.get());
  for (int factor = reduction(pixGetWidth(grey.get()), pixGetHeight(grey.get())); factor > 1;
       factor /= 2)
    grey.reset(pixScaleAreaMap2(grey.get()));
  const bool sideways = stored.orientation >= 5;
  return {upright(std::move(grey), stored.orientation), sideways ? stored.height : stored.width,
          sideways ? stored.width : stored.height};
}

}  // namespace mnist
