// libpng and libjpeg report errors by longjmp: between setjmp and the library's calls there are
// only objects without destructors; what owns memory lives in the caller.
#include "host/data/pictures/image.h"

#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

// These two need <cstdio>.
#include <jerror.h>
#include <jpeglib.h>

#include "host/error.h"
#include "host/model/model.h"
#include "host/os/file_bytes.h"

namespace mnist {
namespace {

constexpr size_t kMaxFileBytes = 64000000;
constexpr uint64_t kMaxPixels = 64000000;

using Bytes = std::span<const uint8_t>;

[[noreturn]] void fail(const std::string& problem) {
  throw Error(ExitCode::kBadInput, problem);
}

bool too_large(uint64_t width, uint64_t height) {
  return width == 0 || height == 0 || width > kMaxPixels / height;
}

[[noreturn]] void fail_size(uint64_t width, uint64_t height) {
  fail(fmt::format("is {}x{}; 1 to {} million pixels are accepted", width, height,
                   kMaxPixels / 1000000));
}

GrayImage make_image(uint64_t width, uint64_t height) {
  if (too_large(width, height)) fail_size(width, height);
  return {int(width), int(height), std::vector<uint8_t>(width * height)};
}

uint8_t on_white(int value, int alpha) {
  return uint8_t((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

// ITU-R BT.601 luma, as JPEG's Y.
int luma(int red, int green, int blue) {
  return (299 * red + 587 * green + 114 * blue + 500) / 1000;
}

// --- PNG ----------------------------------------------------------------------------------------

struct PngReader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  Bytes file;
  size_t position = 0;
  char problem[128] = "";

  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void on_png_error(png_structp png, png_const_charp text) {
  auto& reader = *static_cast<PngReader*>(png_get_error_ptr(png));
  std::snprintf(reader.problem, sizeof reader.problem, "%s", text);
  png_longjmp(png, 1);
}

void on_png_warning(png_structp, png_const_charp) {}

void on_png_read(png_structp png, png_bytep out, size_t count) {
  auto& reader = *static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > reader.file.size() - reader.position) png_error(png, "the file ends too early");
  std::memcpy(out, reader.file.data() + reader.position, count);
  reader.position += count;
}

bool read_png_header(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_read_info(reader.png, reader.info);
  return true;
}

// Bytes per pixel once everything is 8 bits: grey, grey+alpha, RGB or RGBA; 0 on failure.
int expand_png(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return 0;
  png_set_expand(reader.png);
  png_set_scale_16(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return png_get_channels(reader.png, reader.info);
}

bool read_png_rows(PngReader& reader, uint8_t* pixels, size_t row_bytes, int height, int passes) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  for (int pass = 0; pass < passes; ++pass)
    for (int y = 0; y < height; ++y) png_read_row(reader.png, pixels + y * row_bytes, nullptr);
  png_read_end(reader.png, nullptr);
  return true;
}

GrayImage read_png(Bytes file) {
  PngReader reader;
  reader.file = file;
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_png_error, on_png_warning);
  if (reader.png != nullptr) reader.info = png_create_info_struct(reader.png);
  if (reader.info == nullptr) throw Error(ExitCode::kInternal, "libpng cannot start");
  png_set_read_fn(reader.png, &reader, on_png_read);
  png_set_crc_action(reader.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_user_limits(reader.png, kMaxPixels, kMaxPixels);
  png_set_chunk_malloc_max(reader.png, 8000000);
  png_set_chunk_cache_max(reader.png, 100);

  const auto broken = [&] { fail(fmt::format("is a damaged PNG picture: {}", reader.problem)); };
  if (!read_png_header(reader)) broken();
  GrayImage image = make_image(png_get_image_width(reader.png, reader.info),
                               png_get_image_height(reader.png, reader.info));
  const int passes = png_get_interlace_type(reader.png, reader.info) == PNG_INTERLACE_NONE
                         ? 1
                         : PNG_INTERLACE_ADAM7_PASSES;
  const int channels = expand_png(reader);
  if (channels == 0) broken();
  const size_t row_bytes = size_t(image.width) * channels;
  if (png_get_rowbytes(reader.png, reader.info) != row_bytes)
    throw Error(ExitCode::kInternal, "libpng gives rows of an unexpected length");
  std::vector<uint8_t> pixels(row_bytes * image.height);
  if (!read_png_rows(reader, pixels.data(), row_bytes, image.height, passes)) broken();

  const bool has_color = channels >= 3;
  const bool has_alpha = channels == 2 || channels == 4;
  const uint8_t* in = pixels.data();
  for (uint8_t& out : image.pixels) {
    const int value = has_color ? luma(in[0], in[1], in[2]) : in[0];
    out = has_alpha ? on_white(value, in[channels - 1]) : uint8_t(value);
    in += channels;
  }
  return image;
}

// --- JPEG ---------------------------------------------------------------------------------------

struct JpegReader {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump;
  char problem[JMSG_LENGTH_MAX] = "";

  ~JpegReader() { jpeg_destroy_decompress(&jpeg); }
};

[[noreturn]] void stop_jpeg(j_common_ptr jpeg) {
  auto& reader = *static_cast<JpegReader*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, reader.problem);
  std::longjmp(reader.jump, 1);
}

// libjpeg goes on with grey where data are damaged; only what cannot change the picture may pass.
void on_jpeg_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;  // not a warning
  const int code = jpeg->err->msg_code;
  if (code != JWRN_EXTRANEOUS_DATA && code != JWRN_JFIF_MAJOR && code != JWRN_ADOBE_XFORM)
    stop_jpeg(jpeg);
}

// A small progressive file can ask for any number of passes over a large picture.
void on_jpeg_progress(j_common_ptr jpeg) {
  constexpr int kMaxScans = 200;
  auto& reader = *static_cast<JpegReader*>(jpeg->client_data);
  if (reader.jpeg.input_scan_number <= kMaxScans) return;
  std::snprintf(reader.problem, sizeof reader.problem, "it has more than %d scans", kMaxScans);
  std::longjmp(reader.jump, 1);
}

bool read_jpeg_header(JpegReader& reader, Bytes file) {
  if (setjmp(reader.jump)) return false;
  jpeg_create_decompress(&reader.jpeg);
  reader.jpeg.progress = &reader.progress;
  reader.jpeg.mem->max_memory_to_use = 512000000;
  jpeg_mem_src(&reader.jpeg, file.data(), file.size());
  jpeg_read_header(&reader.jpeg, TRUE);
  return true;
}

bool read_jpeg_rows(JpegReader& reader, uint8_t* pixels, size_t width) {
  if (setjmp(reader.jump)) return false;
  reader.jpeg.out_color_space = JCS_GRAYSCALE;
  jpeg_start_decompress(&reader.jpeg);
  while (reader.jpeg.output_scanline < reader.jpeg.output_height) {
    JSAMPROW row = pixels + reader.jpeg.output_scanline * width;
    jpeg_read_scanlines(&reader.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&reader.jpeg);
  return true;
}

GrayImage read_jpeg(Bytes file) {
  JpegReader reader;
  reader.jpeg.err = jpeg_std_error(&reader.errors);
  reader.jpeg.client_data = &reader;
  reader.errors.error_exit = stop_jpeg;
  reader.errors.emit_message = on_jpeg_message;
  reader.progress.progress_monitor = on_jpeg_progress;

  const auto broken = [&] { fail(fmt::format("is a damaged JPEG picture: {}", reader.problem)); };
  if (!read_jpeg_header(reader, file)) broken();
  const J_COLOR_SPACE space = reader.jpeg.jpeg_color_space;
  if (space != JCS_GRAYSCALE && space != JCS_YCbCr && space != JCS_RGB)
    fail("is a JPEG picture in CMYK or other printing colours; save it as grey or RGB");
  GrayImage image = make_image(reader.jpeg.image_width, reader.jpeg.image_height);
  if (!read_jpeg_rows(reader, image.pixels.data(), size_t(image.width))) broken();
  return image;
}

// --- PGM ----------------------------------------------------------------------------------------

class PgmReader {
 public:
  explicit PgmReader(Bytes file)
      : next_(reinterpret_cast<const char*>(file.data()) + 2), end_(next_ + file.size() - 2) {}

  GrayImage read(bool text) {
    const uint32_t width = number("width"), height = number("height");
    white_ = number("white level");
    if (white_ == 0 || white_ > 65535)
      fail(fmt::format("is a PGM picture with white level {}; 1 to 65535 are possible", white_));
    // The fewest bytes that could hold the pixels: digits and blanks in between, or samples.
    const uint64_t bytes_each = text || white_ > 255 ? 2 : 1;
    if (too_large(width, height)) fail_size(width, height);
    if (!text && next_ < end_) ++next_;  // the one blank that ends the header
    const uint64_t have = next_ < end_ ? uint64_t(end_ - next_) : 0;
    if (have < uint64_t{width} * height * bytes_each - (text ? 1 : 0))
      fail(
          fmt::format("is a PGM picture that ends too early: {}x{} pixels do not fit into {} bytes",
                      width, height, have));
    GrayImage image = make_image(width, height);
    for (uint8_t& pixel : image.pixels) pixel = scaled(text ? number("pixel") : sample());
    return image;
  }

 private:
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

  uint32_t number(const char* what) {
    skip_blanks();
    uint32_t value = 0;
    const auto [stop, error] = std::from_chars(next_, end_, value);
    if (error != std::errc())
      fail(fmt::format("is a damaged PGM picture: its {} is not a number", what));
    next_ = stop;
    return value;
  }

  uint32_t sample() {
    uint32_t value = static_cast<unsigned char>(*next_++);
    if (white_ > 255) value = value << 8 | static_cast<unsigned char>(*next_++);
    return value;
  }

  uint8_t scaled(uint32_t value) const {
    if (value > white_)
      fail(fmt::format("is a damaged PGM picture: pixel {} is above the white level {}", value,
                       white_));
    return uint8_t((value * 255 + white_ / 2) / white_);
  }

  const char* next_;
  const char* end_;
  uint32_t white_ = 0;
};

// --- to MNIST -----------------------------------------------------------------------------------

bool border_is_light(const GrayImage& image) {
  std::vector<uint8_t> ring;
  for (int y = 0; y < image.height; ++y) {
    const bool whole_row = y == 0 || y == image.height - 1;
    const int step = whole_row ? 1 : std::max(1, image.width - 1);
    for (int x = 0; x < image.width; x += step)
      ring.push_back(image.pixels[size_t(y) * image.width + x]);
  }
  const auto middle = ring.begin() + std::ptrdiff_t(ring.size() / 2);
  std::nth_element(ring.begin(), middle, ring.end());
  return *middle >= 128;
}

// Box-filters `in` [rows,from] along its rows to `out` [to,rows] (transposed), to <= from: output
// pixel i is the mean of the input over [i,i+1) * from/to.
template <typename T>
std::vector<double> shrink_rows(const std::vector<T>& in, int rows, int from, int to) {
  std::vector<double> out(size_t(to) * rows);
  const double ratio = double(from) / to;
  for (int i = 0; i < to; ++i) {
    const double begin = i * ratio, end = std::min((i + 1) * ratio, double(from));
    for (int row = 0; row < rows; ++row) {
      double sum = 0;
      for (int x = int(begin); x < from && x < end; ++x)
        sum += in[size_t(row) * from + x] *
               (std::min<double>(x + 1, end) - std::max<double>(x, begin));
      out[size_t(i) * rows + row] = sum / (end - begin);
    }
  }
  return out;
}

GrayImage shrink(const GrayImage& image, int width, int height) {
  const std::vector<double> columns = shrink_rows(image.pixels, image.height, image.width, width);
  const std::vector<double> rows = shrink_rows(columns, width, image.height, height);
  GrayImage small{width, height, std::vector<uint8_t>(rows.size())};
  std::transform(rows.begin(), rows.end(), small.pixels.begin(),
                 [](double value) { return uint8_t(std::lround(value)); });
  return small;
}

}  // namespace

GrayImage read_image(const std::filesystem::path& path) {
  const std::vector<uint8_t> file = read_file_bytes(path, kMaxFileBytes);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  try {
    if (text.starts_with("\x89PNG\r\n\x1a\n")) return read_png(file);
    if (text.starts_with("\xff\xd8\xff")) return read_jpeg(file);
    if (text.starts_with("P2") || text.starts_with("P5"))
      return PgmReader(file).read(text[1] == '2');
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", path.string(), error.what()));
  }
  throw Error(
      ExitCode::kBadInput,
      fmt::format("{}: is not a picture that can be read: it begins with {}; PNG, JPEG and PGM "
                  "are possible",
                  path.string(), describe_bytes(file)));
}

std::array<uint8_t, 784> to_mnist(const GrayImage& image) {
  const int longest = std::max(image.width, image.height);
  const auto fitted = [&](int length) {
    return std::max(1, int(std::lround(double(length) * kMnistSide / longest)));
  };
  const GrayImage digit =
      longest > kMnistSide ? shrink(image, fitted(image.width), fitted(image.height)) : image;
  const uint8_t flip = border_is_light(image) ? 255 : 0;
  const int left = (kMnistSide - digit.width) / 2, top = (kMnistSide - digit.height) / 2;
  std::array<uint8_t, 784> out{};
  for (int y = 0; y < digit.height; ++y)
    for (int x = 0; x < digit.width; ++x)
      out[size_t(top + y) * kMnistSide + left + x] =
          digit.pixels[size_t(y) * digit.width + x] ^ flip;
  return out;
}

}  // namespace mnist
