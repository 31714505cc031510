#include "host/data/pictures/image.h"

#include <png.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

// This one needs <cstdio>.
#include <jpeglib.h>

#include "tests/support/catch.h"
#include "tests/support/data_files.h"

using namespace mnist;
using namespace mnist::test;

namespace {

// --- writers ------------------------------------------------------------------------------------

struct PngKind {
  int width, height, color_type, bit_depth;
  bool interlaced = false;
  std::vector<png_color> palette = {};
  Bytes palette_alpha = {};
  std::optional<int> transparent_gray = {};
};

void append_png(png_structp png, png_bytep data, size_t size) {
  auto& out = *static_cast<Bytes*>(png_get_io_ptr(png));
  out.insert(out.end(), data, data + size);
}

// `rows`: as PNG packs them, one after the other.
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

// `pixels` [height,width,channels].
Bytes encode_jpeg(int width, int height, J_COLOR_SPACE in, J_COLOR_SPACE stored, bool progressive,
                  Bytes pixels) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &data, &size);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.input_components = in == JCS_GRAYSCALE ? 1 : in == JCS_CMYK ? 4 : 3;
  jpeg.in_color_space = in;
  jpeg_set_defaults(&jpeg);
  jpeg_set_colorspace(&jpeg, stored);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = pixels.data() + size_t(jpeg.next_scanline) * width * jpeg.input_components;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  Bytes out(data, data + size);
  free(data);
  return out;
}

// --- pictures -----------------------------------------------------------------------------------

class Folder {
 public:
  GrayImage read(const Bytes& file) {
    write_bytes(path(), file);
    return read_image(path());
  }
  Failure failure(const Bytes& file) {
    return failure_of([&] { read(file); });
  }
  std::filesystem::path path() const { return directory_ / "picture"; }

 private:
  TemporaryDirectory directory_;
};

// Grey levels that rise along the rows and down the columns.
Bytes slope(int width, int height) {
  Bytes out;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      out.push_back(static_cast<uint8_t>((x * 150) / width + (y * 100) / height));
  return out;
}

// [n,3] of one colour.
Bytes filled(size_t count, const Bytes& color) {
  Bytes out;
  while (out.size() < count * color.size()) out.insert(out.end(), color.begin(), color.end());
  return out;
}

bool all_near(const Bytes& have, const Bytes& want, int tolerance) {
  if (have.size() != want.size()) return false;
  for (size_t i = 0; i < have.size(); ++i)
    if (std::abs(have[i] - want[i]) > tolerance) return false;
  return true;
}

int expected_luma(int red, int green, int blue) {
  return static_cast<int>(std::lround(0.299 * red + 0.587 * green + 0.114 * blue));
}

// A filled rectangle of ink on paper.
GrayImage rectangle(int width, int height, int left, int top, int right, int bottom, uint8_t ink,
                    uint8_t paper) {
  GrayImage image{width, height, Bytes(size_t(width) * height, paper)};
  for (int y = top; y < bottom; ++y)
    for (int x = left; x < right; ++x) image.pixels[size_t(y) * width + x] = ink;
  return image;
}

}  // namespace

TEST_CASE("image: PNG of every kind") {
  Folder folder;
  const Bytes gray = slope(9, 7);
  for (const bool interlaced : {false, true}) {
    const GrayImage image =
        folder.read(encode_png({9, 7, PNG_COLOR_TYPE_GRAY, 8, interlaced}, gray));
    CHECK(image.width == 9);
    CHECK(image.height == 7);
    CHECK(image.pixels == gray);

    Bytes wide;
    for (const uint8_t value : gray) wide.insert(wide.end(), {value, value});
    CHECK(folder.read(encode_png({9, 7, PNG_COLOR_TYPE_GRAY, 16, interlaced}, wide)).pixels ==
          gray);

    const int luma = expected_luma(200, 30, 90);
    CHECK(all_near(
        folder
            .read(encode_png({9, 7, PNG_COLOR_TYPE_RGB, 8, interlaced}, filled(63, {200, 30, 90})))
            .pixels,
        Bytes(63, luma), 0));
    CHECK(all_near(folder
                       .read(encode_png({9, 7, PNG_COLOR_TYPE_RGB, 16, interlaced},
                                        filled(63, {200, 200, 30, 30, 90, 90})))
                       .pixels,
                   Bytes(63, luma), 0));

    // Transparency shows white paper.
    const auto rgba = [&](uint8_t alpha) {
      return folder
          .read(encode_png({9, 7, PNG_COLOR_TYPE_RGB_ALPHA, 8, interlaced},
                           filled(63, {200, 30, 90, alpha})))
          .pixels;
    };
    CHECK(all_near(rgba(255), Bytes(63, luma), 0));
    CHECK(all_near(rgba(0), Bytes(63, 255), 0));
    CHECK(all_near(rgba(51), Bytes(63, static_cast<int>(std::lround(luma * 0.2 + 255 * 0.8))), 1));
    CHECK(all_near(folder
                       .read(encode_png({9, 7, PNG_COLOR_TYPE_GRAY_ALPHA, 8, interlaced},
                                        filled(63, {100, 51})))
                       .pixels,
                   Bytes(63, 224), 0));
  }

  // 1-bit grey: 1010 1010 / 0101 0101, and with black transparent.
  PngKind bits{8, 2, PNG_COLOR_TYPE_GRAY, 1};
  const Bytes stripes{255, 0, 255, 0, 255, 0, 255, 0, 0, 255, 0, 255, 0, 255, 0, 255};
  CHECK(folder.read(encode_png(bits, {0xaa, 0x55})).pixels == stripes);
  bits.transparent_gray = 0;
  CHECK(folder.read(encode_png(bits, {0xaa, 0x55})).pixels == Bytes(16, 255));

  PngKind palette{4, 1,     PNG_COLOR_TYPE_PALETTE,
                  2, false, {{0, 0, 0}, {255, 0, 0}, {9, 9, 9}, {255, 255, 255}}};
  CHECK(folder.read(encode_png(palette, {0b00011011})).pixels == Bytes{0, 76, 9, 255});
  palette.palette_alpha = {0, 255, 0};
  CHECK(folder.read(encode_png(palette, {0b00011011})).pixels == Bytes{255, 76, 255, 255});
}

TEST_CASE("image: JPEG of every kind") {
  Folder folder;
  const Bytes gray = slope(40, 24);
  for (const bool progressive : {false, true}) {
    const GrayImage image =
        folder.read(encode_jpeg(40, 24, JCS_GRAYSCALE, JCS_GRAYSCALE, progressive, gray));
    CHECK(image.width == 40);
    CHECK(image.height == 24);
    CHECK(all_near(image.pixels, gray, 8));
    const Bytes color = filled(40 * 24, {200, 30, 90});
    const Bytes luma(40 * 24, static_cast<uint8_t>(expected_luma(200, 30, 90)));
    CHECK(all_near(folder.read(encode_jpeg(40, 24, JCS_RGB, JCS_YCbCr, progressive, color)).pixels,
                   luma, 2));
    CHECK(all_near(folder.read(encode_jpeg(40, 24, JCS_RGB, JCS_RGB, progressive, color)).pixels,
                   luma, 2));
  }
  for (const J_COLOR_SPACE stored : {JCS_CMYK, JCS_YCCK}) {
    const Failure failure =
        folder.failure(encode_jpeg(40, 24, JCS_CMYK, stored, false, Bytes(40 * 24 * 4, 99)));
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, "CMYK"));
  }
}

TEST_CASE("image: PGM of every kind") {
  Folder folder;
  const GrayImage text =
      folder.read(text_bytes("P2 # a comment\n3\t2 # another\n 255\n0 10 20\n30 40 255"));
  CHECK(text.width == 3);
  CHECK(text.height == 2);
  CHECK(text.pixels == Bytes{0, 10, 20, 30, 40, 255});
  CHECK(folder.read(text_bytes("P2 3 1 3\n0 1 3\n")).pixels == Bytes{0, 85, 255});
  CHECK(folder.read(text_bytes("P2\n2 1 65535\n65535 32768\n")).pixels == Bytes{255, 128});
  CHECK(folder.read(text_bytes("P5 3 1 255\n") + Bytes{7, '#', 255}).pixels == Bytes{7, '#', 255});
  CHECK(folder.read(text_bytes("P5 2 1 1\n") + Bytes{1, 0}).pixels == Bytes{255, 0});
  CHECK(folder.read(text_bytes("P5 2 1 65535\n") + Bytes{0xff, 0xff, 0x80, 0}).pixels ==
        Bytes{255, 128});

  const std::pair<std::string, std::string> bad[] = {
      {"P2 3 1 255\n0 1 256", "pixel 256 is above the white level 255"},
      {"P5 1 1 9\n\x0a", "above the white level"},
      {"P2 3 1 0\n0 0 0", "white level 0"},
      {"P2 1 1 65536\n0", "white level 65536"},
      {"P2 x 1 255\n0", "width is not a number"},
      {"P2 -3 1 255\n0", "width is not a number"},
      {"P2 1 99999999999 255\n0", "height is not a number"},
      {"P2 0 5 255\n", "is 0x5"},
      {"P2 2 1 255\n0 a", "pixel is not a number"},
      {"P2 4000000000 4000000000 255\n0", "4000000000x4000000000"},
      {"P5 8001 8000 255\n0", "64 million pixels"},
      {"P5 8000 8000 255\n0", "do not fit into 1 bytes"}};
  for (const auto& [file, reason] : bad) {
    const Failure failure = folder.failure(text_bytes(file));
    INFO(failure.text);
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, reason));
    CHECK(contains(failure.text, folder.path().string()));
  }
}

TEST_CASE("image: every truncation is refused, every damage survived") {
  Folder folder;
  const Bytes gray = slope(12, 10), color = filled(120, {200, 30, 90});
  struct File {
    Bytes bytes;
    size_t needed;  // what follows is not part of the picture
  };
  const auto whole = [](const Bytes& bytes) { return File{bytes, bytes.size()}; };
  const File files[] = {
      whole(encode_png({12, 10, PNG_COLOR_TYPE_GRAY, 8}, gray)),
      whole(encode_png({12, 10, PNG_COLOR_TYPE_RGB, 8, true}, color)),
      whole(encode_png({4,
                        1,
                        PNG_COLOR_TYPE_PALETTE,
                        2,
                        false,
                        {{0, 0, 0}, {1, 2, 3}, {9, 9, 9}, {5, 5, 5}},
                        {0, 7}},
                       {0x1b})),
      whole(encode_jpeg(12, 10, JCS_GRAYSCALE, JCS_GRAYSCALE, false, gray)),
      whole(encode_jpeg(12, 10, JCS_RGB, JCS_YCbCr, true, color)),
      whole(text_bytes("P5 12 10 255\n") + gray),
      {text_bytes("P2 3 2 255\n0 10 20\n30 40 250\n"), 26}};  // "2" may be all of the last number
  std::mt19937 random(5);
  for (const File& file : files) {
    REQUIRE(folder.failure(file.bytes).code == ExitCode::kOk);
    for (size_t size = 0; size < file.needed; ++size) {
      INFO("the first " << size << " of " << file.bytes.size() << " bytes");
      REQUIRE(folder.failure(Bytes(file.bytes.begin(), file.bytes.begin() + size)).code ==
              ExitCode::kBadInput);
    }
    for (int round = 0; round < 1000; ++round) {
      Bytes damaged = file.bytes;
      for (int change = 1 + static_cast<int>(random() % 3); change > 0; --change)
        damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
      const ExitCode code = folder.failure(damaged).code;
      REQUIRE((code == ExitCode::kOk || code == ExitCode::kBadInput));
    }
  }
  // PNG has a checksum over everything: no bit may go wrong unseen.
  const Bytes png = files[2].bytes;
  for (size_t bit = 0; bit < png.size() * 8; ++bit) {
    Bytes damaged = png;
    damaged[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    INFO("bit " << bit);
    REQUIRE(folder.failure(damaged).code == ExitCode::kBadInput);
  }
}

TEST_CASE("image: sizes beyond the limit are refused before memory is taken") {
  Folder folder;
  // The header is enough to know it: the picture after it is cut off.
  Bytes png = encode_png({8001, 8000, PNG_COLOR_TYPE_GRAY, 1}, Bytes(size_t{1001} * 8000));
  png.resize(100);
  Failure failure = folder.failure(png);
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "8001x8000"));
  Bytes jpeg = encode_jpeg(10000, 16, JCS_GRAYSCALE, JCS_GRAYSCALE, false, Bytes(160000));
  for (size_t i = 0; i + 8 < jpeg.size(); ++i)
    if (jpeg[i] == 0xff &&
        jpeg[i + 1] == 0xc0) {  // the frame header: marker, length, depth, height
      jpeg[i + 5] = 0xff;
      jpeg[i + 6] = 0;
      break;
    }
  failure = folder.failure(jpeg);
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "10000x65280"));

  std::filesystem::resize_file(folder.path(), 64000001);
  failure = failure_of([&] { read_image(folder.path()); });
  CHECK(failure.code == ExitCode::kBadInput);
  CHECK(contains(failure.text, "at most 64.0 MB"));
}

TEST_CASE("image: what is not a picture is named") {
  Folder folder;
  const std::pair<Bytes, std::string> cases[] = {
      {{}, "nothing (it is empty)"},
      {text_bytes("<!doctype HTML><html>"), "an HTML page"},
      {text_bytes("hello, world"), "the text \"hello, world\""},
      {text_bytes("GIF89a......"), "a GIF picture"},
      {text_bytes("P6 1 1 255\n..."), "a PPM picture"},
      {text_bytes("RIFF....WEBP"), "a WebP picture"},
      {text_bytes("%PDF-1.7"), "a PDF document"},
      {gzip(idx_images(1)), "gzip data"},
      {idx_images(1), "an IDX file of images"},
      {Bytes{1, 2, 3, 0xfe}, "bytes 01 02 03 fe"}};
  for (const auto& [file, kind] : cases) {
    const Failure failure = folder.failure(file);
    INFO(failure.text);
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, folder.path().string() + ": is not a picture"));
    CHECK(contains(failure.text, "begins with " + kind));
    CHECK(!contains(failure.text, "\n"));
  }
  CHECK(failure_of([&] { read_image(folder.path().string() + "2"); }).code ==
        ExitCode::kMissingInput);
  CHECK(failure_of([&] { read_image(folder.path().parent_path()); }).code == ExitCode::kBadInput);
}

TEST_CASE("image: a 28x28 digit is taken as it is, or inverted from paper") {
  GrayImage digit{28, 28, Bytes(784)};
  for (int y = 5; y < 23; ++y)
    for (int x = 9; x < 20; ++x) digit.pixels[y * 28 + x] = static_cast<uint8_t>(x * y);
  const auto same = to_mnist(digit);
  CHECK(std::equal(same.begin(), same.end(), digit.pixels.begin()));
  GrayImage paper = digit;
  for (uint8_t& value : paper.pixels) value = static_cast<uint8_t>(255 - value);
  CHECK(to_mnist(paper) == same);
  // A few strokes that touch the border do not make the paper.
  for (int x = 0; x < 20; ++x) digit.pixels[x] = 255;
  CHECK(to_mnist(digit)[19] == 255);
  CHECK(to_mnist(digit)[27 * 28] == 0);
}

TEST_CASE("image: larger pictures are averaged down, smaller ones centred") {
  // 4x4 blocks of 0, 40, 80, 120 ... become single pixels of their mean.
  GrayImage large{112, 112, Bytes(112 * 112)};
  double sum = 0;
  for (int y = 8; y < 104; ++y)
    for (int x = 8; x < 104; ++x) sum += large.pixels[y * 112 + x] = static_cast<uint8_t>(x ^ y);
  const auto small = to_mnist(large);
  double small_sum = 0;
  for (int y = 0; y < 28; ++y)
    for (int x = 0; x < 28; ++x) {
      double block = 0;
      for (int i = 0; i < 16; ++i) block += large.pixels[(4 * y + i / 4) * 112 + 4 * x + i % 4];
      REQUIRE(std::abs(small[y * 28 + x] - block / 16) <= 0.5);
      small_sum += small[y * 28 + x];
    }
  CHECK(std::abs(small_sum - sum / 16) < 28 * 28 * 0.5);

  // 100x50 black on white: 28x14 in the middle of black.
  const auto wide = to_mnist(rectangle(100, 50, 25, 10, 75, 40, 0, 255));
  for (int x = 0; x < 28; ++x) {
    CHECK(wide[0 * 28 + x] == 0);
    CHECK(wide[6 * 28 + x] == 0);
    CHECK(wide[21 * 28 + x] == 0);
    CHECK(wide[14 * 28 + x] == (x >= 7 && x < 21 ? 255 : 0));
  }
  // 37x37: no whole number of pixels into one; what is uniform stays so.
  const auto odd = to_mnist(rectangle(37, 37, 1, 1, 36, 36, 200, 0));
  for (int i = 2; i < 26; ++i) CHECK(odd[14 * 28 + i] == 200);

  const auto little = to_mnist(rectangle(8, 6, 1, 1, 7, 5, 255, 0));
  CHECK(std::accumulate(little.begin(), little.end(), 0) == 6 * 4 * 255);
  CHECK(little[12 * 28 + 11] == 255);
  CHECK(little[11 * 28 + 11] == 0);
  CHECK(little[12 * 28 + 10] == 0);
  const auto dot = to_mnist({1, 1, Bytes{0}});
  CHECK(std::accumulate(dot.begin(), dot.end(), 0) == 0);
  const auto line = to_mnist({10000, 1, Bytes(10000, 255)});
  CHECK(std::accumulate(line.begin(), line.end(), 0) == 0);
}
