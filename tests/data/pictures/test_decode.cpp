#include "host/data/pictures/decode.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "host/data/pictures/exif.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/picture_files.h"
#include "tests/support/random.h"

using namespace mnist;
using namespace mnist::test;

namespace {

struct Picture {
  int width = 0, height = 0;  // of `pixels`
  Bytes pixels;
  int full_width = 0, full_height = 0;
};

Picture decode(const Bytes& file) {
  const DecodedPicture decoded = decode_picture(file);
  PIX* grey = decoded.grey.get();
  Picture out{pixGetWidth(grey), pixGetHeight(grey), {}, decoded.width, decoded.height};
  REQUIRE(pixGetDepth(grey) == 8);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      l_uint32 value = 0;
      pixGetPixel(grey, x, y, &value);
      out.pixels.push_back(static_cast<uint8_t>(value));
    }
  return out;
}

Failure decode_failure(const Bytes& file) {
  return failure_of([&] { decode_picture(file); });
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

Bytes rgba_of(const Bytes& grey) {
  Bytes out;
  for (const uint8_t value : grey) out.insert(out.end(), {value, value, value, 255});
  return out;
}

// libjpeg complains there.
class QuietStandardError {
 public:
  QuietStandardError() : saved_(dup(STDERR_FILENO)) {
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO);
    close(null);
  }
  ~QuietStandardError() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
  }
  QuietStandardError(const QuietStandardError&) = delete;
  QuietStandardError& operator=(const QuietStandardError&) = delete;

 private:
  int saved_;
};

// Where pixel (x, y) of a stored picture is seen, by the words of the EXIF standard: what side of
// the picture the stored rows' first and columns' first are.
std::array<int, 2> seen_at(int orientation, int x, int y, int width, int height) {
  const int right = width - 1 - x, bottom = height - 1 - y;
  switch (orientation) {
    case 2:
      return {right, y};
    case 3:
      return {right, bottom};
    case 4:
      return {x, bottom};
    case 5:
      return {y, x};
    case 6:
      return {bottom, x};
    case 7:
      return {bottom, right};
    case 8:
      return {y, right};
    default:
      return {x, y};
  }
}

}  // namespace

TEST_CASE("decode: PNG of every kind") {
  const Bytes gray = slope(9, 7);
  for (const bool interlaced : {false, true}) {
    const Picture picture = decode(encode_png({9, 7, PNG_COLOR_TYPE_GRAY, 8, interlaced}, gray));
    CHECK(picture.width == 9);
    CHECK(picture.height == 7);
    CHECK(picture.full_width == 9);
    CHECK(picture.full_height == 7);
    CHECK(picture.pixels == gray);

    Bytes wide;
    for (const uint8_t value : gray) wide.insert(wide.end(), {value, value});
    CHECK(decode(encode_png({9, 7, PNG_COLOR_TYPE_GRAY, 16, interlaced}, wide)).pixels == gray);

    const int luma = expected_luma(200, 30, 90);
    const auto of = [&](int type, int bits, const Bytes& pixel) {
      return decode(encode_png({9, 7, type, bits, interlaced}, filled(63, pixel))).pixels;
    };
    CHECK(of(PNG_COLOR_TYPE_RGB, 8, {200, 30, 90}) == Bytes(63, luma));
    CHECK(of(PNG_COLOR_TYPE_RGB, 16, {200, 200, 30, 30, 90, 90}) == Bytes(63, luma));
    CHECK(of(PNG_COLOR_TYPE_RGB_ALPHA, 8, {200, 30, 90, 255}) == Bytes(63, luma));
    CHECK(all_near(of(PNG_COLOR_TYPE_RGB_ALPHA, 8, {200, 30, 90, 51}),
                   Bytes(63, static_cast<int>(std::lround(luma * 0.2 + 255 * 0.8))), 1));
    CHECK(of(PNG_COLOR_TYPE_GRAY_ALPHA, 8, {100, 51}) == Bytes(63, 224));
    CHECK(all_near(of(PNG_COLOR_TYPE_GRAY_ALPHA, 16, {100, 100, 51, 51}), Bytes(63, 224), 1));
  }

  // 1-bit grey: 1010 1010 / 0101 0101, and with black transparent.
  PngKind bits{8, 2, PNG_COLOR_TYPE_GRAY, 1};
  const Bytes stripes{255, 0, 255, 0, 255, 0, 255, 0, 0, 255, 0, 255, 0, 255, 0, 255};
  CHECK(decode(encode_png(bits, {0xaa, 0x55})).pixels == stripes);
  bits.transparent_gray = 0;
  CHECK(decode(encode_png(bits, {0xaa, 0x55})).pixels ==
        Bytes{255, 0, 255, 0, 255, 0, 255, 0, 0, 255, 0, 255, 0, 255, 0, 255});
  bits.transparent_gray = 1;  // black ink on nothing
  CHECK(decode(encode_png(bits, {0xaa, 0x55})).pixels == stripes);

  PngKind palette{4, 1,     PNG_COLOR_TYPE_PALETTE,
                  2, false, {{0, 0, 0}, {255, 0, 0}, {9, 9, 9}, {255, 255, 255}}};
  CHECK(decode(encode_png(palette, {0b00011011})).pixels == Bytes{0, 76, 9, 255});
  palette.palette_alpha = {0, 255, 0};
  CHECK(decode(encode_png(palette, {0b00011011})).pixels == Bytes{255, 76, 255, 255});
}

TEST_CASE("decode: JPEG of every kind") {
  const Bytes gray = slope(40, 24);
  const auto of = [](JpegColors colors, bool progressive, const Bytes& pixel) {
    return decode(encode_jpeg(40, 24, colors, progressive, filled(40 * 24, pixel))).pixels;
  };
  for (const bool progressive : {false, true}) {
    const Picture picture = decode(encode_jpeg(40, 24, JpegColors::kGrey, progressive, gray));
    CHECK(picture.width == 40);
    CHECK(picture.height == 24);
    CHECK(all_near(picture.pixels, gray, 8));
    const Bytes luma(40 * 24, static_cast<uint8_t>(expected_luma(200, 30, 90)));
    CHECK(all_near(of(JpegColors::kYcc, progressive, {200, 30, 90}), luma, 2));
    CHECK(all_near(of(JpegColors::kRgb, progressive, {200, 30, 90}), luma, 2));
    // Printing colours: YCCK comes with Adobe's marker, which means that they are inverted.
    const Bytes printed(40 * 24,
                        static_cast<uint8_t>(expected_luma(200 * 0.8, 30 * 0.8, 90 * 0.8)));
    CHECK(all_near(of(JpegColors::kYcck, progressive, {200, 30, 90, 204}), printed, 3));
    CHECK(all_near(of(JpegColors::kCmyk, progressive, {200, 30, 90, 204}), printed, 3));
  }
}

TEST_CASE("decode: GIF, WebP and TIFF, with transparency") {
  const Bytes gray = slope(9, 7);
  for (const LeptonicaFormat format : {LeptonicaFormat::kWebp, LeptonicaFormat::kTiff}) {
    const Picture picture = decode(encode_rgba(format, 9, 7, rgba_of(gray)));
    CHECK(picture.width == 9);
    CHECK(picture.height == 7);
    CHECK(picture.pixels == gray);
    CHECK(decode(encode_rgba(format, 9, 7, filled(63, {200, 30, 90, 255}))).pixels ==
          Bytes(63, expected_luma(200, 30, 90)));
  }
  CHECK(all_near(
      decode(encode_rgba(LeptonicaFormat::kWebp, 9, 7, filled(63, {100, 100, 100, 51}))).pixels,
      Bytes(63, 224), 1));

  for (const bool palette : {false, true})
    CHECK(decode(encode_tiff(9, 7, gray, palette)).pixels == gray);

  const Picture gif = decode(encode_gif(9, 7, gray));
  CHECK(gif.width == 9);
  CHECK(gif.height == 7);
  CHECK(gif.pixels == gray);
  CHECK(decode(encode_gif(3, 1, {10, 60, 10}, 60)).pixels == Bytes{10, 255, 10});
  CHECK(decode(encode_gif(3, 1, {10, 60, 10}, 10)).pixels == Bytes{255, 60, 255});
  CHECK(decode(encode_gif(3, 1, {200, 60, 60}, 60)).pixels == Bytes{200, 0, 0});  // light ink
}

TEST_CASE("decode: BMP of every kind") {
  const Bytes gray = slope(9, 7);
  CHECK(decode(encode_bmp(9, 7, gray)).pixels == gray);
  CHECK(decode(encode_bmp(9, 7, gray) + Bytes(5)).pixels == gray);  // as some programs end it
  std::vector<uint32_t> words, halves;
  Bytes luma, coarse;
  for (uint32_t i = 0; i < 63; ++i) {
    words.push_back(i << 16 | 2 * i << 8 | 3 * i);
    luma.push_back(static_cast<uint8_t>(expected_luma(int(i), int(2 * i), int(3 * i))));
    halves.push_back(i % 32 << 10 | i % 32 << 5 | i % 32);
    coarse.push_back(static_cast<uint8_t>(std::lround(i % 32 * 255 / 31.0)));
  }
  for (const bool top_down : {false, true}) {
    CHECK(decode(encode_color_bmp(9, 7, 24, {}, words, top_down)).pixels == luma);
    CHECK(decode(encode_color_bmp(9, 7, 32, {}, words, top_down)).pixels == luma);
    CHECK(all_near(decode(encode_color_bmp(9, 7, 16, {}, halves, top_down)).pixels, coarse, 1));
  }
  const std::vector<uint32_t> masks{0xff0000, 0xff00, 0xff, 0xff000000};
  // Without any opaque pixel, nobody meant the alpha.
  CHECK(decode(encode_color_bmp(9, 7, 32, masks, words)).pixels == luma);
  words[0] |= 0xff000000;
  CHECK(decode(encode_color_bmp(9, 7, 32, masks, words)).pixels == Bytes{0} + Bytes(62, 255));
  const std::vector<uint32_t> odd_masks{0xf800, 0x7e0, 0x1f};
  CHECK(all_near(decode(encode_color_bmp(2, 1, 16, odd_masks, {0xffff, 0xf800})).pixels, {255, 76},
                 1));
}

TEST_CASE("decode: PNM of every kind") {
  const Picture text =
      decode(text_bytes("P2 # a comment\n3\t2 # another\n 255\n0 10 20\n30 40 255"));
  CHECK(text.width == 3);
  CHECK(text.height == 2);
  CHECK(text.pixels == Bytes{0, 10, 20, 30, 40, 255});
  CHECK(decode(text_bytes("P1 4 2 0110 1 0 0 1")).pixels == Bytes{255, 0, 0, 255, 0, 255, 255, 0});
  CHECK(decode(text_bytes("P4 9 2\n") + Bytes{0x80, 0x80, 0, 0}).pixels ==
        Bytes{0, 255, 255, 255, 255, 255, 255, 255, 0} + Bytes(9, 255));
  CHECK(decode(text_bytes("P2 3 1 3\n0 1 3\n")).pixels == Bytes{0, 85, 255});
  CHECK(decode(text_bytes("P2\n2 1 65535\n65535 32768\n")).pixels == Bytes{255, 128});
  CHECK(decode(text_bytes("P5 3 1 255\n") + Bytes{7, '#', 255}).pixels == Bytes{7, '#', 255});
  CHECK(decode(text_bytes("P5 2 1 1\n") + Bytes{1, 0}).pixels == Bytes{255, 0});
  CHECK(decode(text_bytes("P5 2 1 65535\n") + Bytes{0xff, 0xff, 0x80, 0}).pixels ==
        Bytes{255, 128});
  CHECK(decode(text_bytes("P3 2 1 9 9 9 9 9 0 0")).pixels == Bytes{255, 76});
  CHECK(decode(text_bytes("P6 2 1 255\n") + Bytes{255, 255, 255, 255, 0, 0}).pixels ==
        Bytes{255, 76});
  CHECK(decode(text_bytes("P6 1 1 511\n") + Bytes{1, 0xff, 0, 0, 0, 0}).pixels == Bytes{76});

  for (const char* bad :
       {"P2 3 1 255\n0 1 256", "P5 1 1 9\n\x0a", "P2 3 1 0\n0 0 0", "P2 1 1 65536\n0",
        "P2 x 1 255\n0", "P2 -3 1 255\n0", "P2 1 99999999999 255\n0", "P2 2 1 255\n0 a",
        "P1 2 1 0 2", "P5 8000 8000 255\n0", "P4 17 1\n.."}) {
    const Failure failure = decode_failure(text_bytes(bad));
    INFO(bad << ": " << failure.text);
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, "is a damaged or incomplete PNM picture"));
  }
}

TEST_CASE("decode: pictures are turned upright") {
  constexpr int kWidth = 24, kHeight = 16;
  const Bytes gray = slope(kWidth, kHeight);
  const std::pair<Bytes, int> files[] = {
      {encode_png({kWidth, kHeight, PNG_COLOR_TYPE_GRAY, 8}, gray), 0},
      {encode_jpeg(kWidth, kHeight, JpegColors::kGrey, false, gray), 8},
      {encode_rgba(LeptonicaFormat::kWebp, kWidth, kHeight, rgba_of(gray)), 0},
      {encode_rgba(LeptonicaFormat::kTiff, kWidth, kHeight, rgba_of(gray)), 0}};
  for (const auto& [file, tolerance] : files)
    for (int orientation = 1; orientation <= 8; ++orientation)
      for (const bool big_endian : {true, false}) {
        INFO("file of type " << int(file[0]) << ", orientation " << orientation);
        const Picture seen = decode(with_orientation(file, orientation, big_endian));
        CHECK(seen.width == (orientation < 5 ? kWidth : kHeight));
        CHECK(seen.height == (orientation < 5 ? kHeight : kWidth));
        CHECK(seen.full_width == seen.width);
        CHECK(seen.full_height == seen.height);
        Bytes want(gray.size());
        for (int y = 0; y < kHeight; ++y)
          for (int x = 0; x < kWidth; ++x) {
            const auto [to_x, to_y] = seen_at(orientation, x, y, kWidth, kHeight);
            want[size_t(to_y) * size_t(seen.width) + size_t(to_x)] = gray[y * kWidth + x];
          }
        CHECK(all_near(seen.pixels, want, tolerance));
      }
  for (const int nonsense : {0, 9, 600}) {
    CHECK(exif_orientation(with_orientation(files[0].first, nonsense)) == 1);
    CHECK(exif_orientation(with_orientation(files[1].first, nonsense)) == 1);
  }
}

TEST_CASE("decode: ink of any colour is seen where the rest is transparent") {
  // A stroke over a tenth of the picture.
  const auto drawing = [](uint8_t ink, uint8_t hidden, uint8_t alpha = 255) {
    Bytes rgba;
    for (int i = 0; i < 400; ++i) {
      const bool stroke = i / 20 >= 4 && i / 20 < 16 && i % 20 >= 9 && i % 20 < 12;
      const uint8_t value = stroke ? ink : hidden;
      rgba.insert(rgba.end(), {value, value, value, stroke ? alpha : uint8_t(0)});
    }
    return decode(encode_png({20, 20, PNG_COLOR_TYPE_RGB_ALPHA, 8}, rgba));
  };
  for (const uint8_t hidden : {0, 255}) {
    for (const int ink : {0, 60, 128, 200, 255}) {
      const Picture picture = drawing(static_cast<uint8_t>(ink), hidden);
      INFO("ink " << ink);
      CHECK(std::abs(picture.pixels[0] - picture.pixels[10 * 20 + 10]) >= 127);
    }
    CHECK(drawing(255, hidden, 128).pixels[0] == 0);
  }
  CHECK(drawing(0, 255).pixels[0] == 255);
  CHECK(drawing(255, 0).pixels[0] == 0);

  // A sheet with round corners stays on white, whatever hides in the corners; so does a sheet that
  // was cut out, as long as there is writing on it.
  const auto sheet = [](int radius, bool written) {
    Bytes rgba;
    for (int i = 0; i < 1600; ++i) {
      const int row = i / 40;
      const double x = i % 40 - 19.5, y = row - 19.5;
      const uint8_t value = written && std::abs(x) < 1.5 && std::abs(y) < 8 ? 30 : 240;
      rgba.insert(rgba.end(),
                  {value, value, value, uint8_t(x * x + y * y < radius * radius ? 255 : 0)});
    }
    return decode(encode_png({40, 40, PNG_COLOR_TYPE_RGB_ALPHA, 8}, rgba)).pixels[0];
  };
  CHECK(sheet(24, false) == 255);
  CHECK(sheet(24, true) == 255);
  CHECK(sheet(12, true) == 255);
  CHECK(decode(encode_png({5, 5, PNG_COLOR_TYPE_RGB_ALPHA, 8}, Bytes(100))).pixels ==
        Bytes(25, decode(encode_png({5, 5, PNG_COLOR_TYPE_RGB_ALPHA, 8}, Bytes(100))).pixels[0]));
}

TEST_CASE("decode: large pictures come smaller") {
  const auto size_of = [](const Picture& picture) {
    return std::array<int, 4>{picture.full_width, picture.full_height, picture.width,
                              picture.height};
  };
  using Sizes = std::array<int, 4>;
  const auto png = [](int width, int height) {
    return encode_png({width, height, PNG_COLOR_TYPE_GRAY, 8}, slope(width, height));
  };
  CHECK(size_of(decode(png(4000, 3000))) == Sizes{4000, 3000, 2000, 1500});
  CHECK(size_of(decode(png(3999, 3000))) == Sizes{3999, 3000, 3999, 3000});
  CHECK(size_of(decode(png(9000, 100))) ==
        Sizes{9000, 100, 9000, 100});  // a strip keeps its height
  const Picture photo = decode(
      with_orientation(encode_jpeg(8002, 4001, JpegColors::kGrey, false, slope(8002, 4001)), 6));
  CHECK(size_of(photo) == Sizes{4001, 8002, 1001, 2001});
  // Its first row becomes the last column: grey rises down the picture, and falls to the right.
  CHECK(std::abs(photo.pixels[1000 * 1001 + 500] - 125) <= 3);
  CHECK(photo.pixels[1000] < 3);
  CHECK(std::abs(photo.pixels[0] - 99) <= 3);
  CHECK(std::abs(photo.pixels[2000 * 1001 + 1000] - 149) <= 3);
}

TEST_CASE("decode: every truncation is refused, every damage survived") {
  const QuietStandardError quiet;
  Random random;
  for (const auto& [name, file] : every_kind()) {
    const Bytes whole = decode(file).pixels;
    size_t refused = 0;
    for (size_t size = 0; size < file.size(); ++size) {
      INFO("the first " << size << " of " << file.size() << " bytes of " << name);
      const Bytes cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      Bytes pixels = whole;  // what is cut may be after the picture
      const Failure failure = failure_of([&] { pixels = decode(cut).pixels; });
      REQUIRE((failure.code == ExitCode::kBadInput || pixels == whole));
      refused += failure.code == ExitCode::kBadInput ? 1 : 0;
    }
    INFO(refused << " of " << file.size() << " truncations of " << name << " were refused");
    CHECK(refused + 16 >= file.size());
    for (int round = 0; round < 300; ++round) {
      Bytes damaged = file;
      for (int change = random.integer(1, 3); change > 0; --change)
        damaged[size_t(random.integer(0, int(file.size()) - 1))] =
            static_cast<uint8_t>(random.integer(0, 255));
      const ExitCode code = decode_failure(damaged).code;
      REQUIRE((code == ExitCode::kOk || code == ExitCode::kBadInput));
    }
  }
}

TEST_CASE("decode: PNG's checksums are heeded") {
  const Bytes png = encode_png({4,
                                1,
                                PNG_COLOR_TYPE_PALETTE,
                                2,
                                false,
                                {{0, 0, 0}, {1, 2, 3}, {9, 9, 9}, {5, 5, 5}},
                                {0, 7}},
                               {0x1b});
  const Bytes whole = decode(png).pixels;
  for (size_t bit = 0; bit < png.size() * 8; ++bit) {
    Bytes damaged = png;
    damaged[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    INFO("bit " << bit);
    Bytes pixels;
    const Failure failure = failure_of([&] { pixels = decode(damaged).pixels; });
    REQUIRE((failure.code == ExitCode::kBadInput || pixels == whole));
    if (bit / 8 < png.size() - 16) REQUIRE(failure.code == ExitCode::kBadInput);
  }
}

TEST_CASE("decode: sizes beyond the limit are refused before memory is taken") {
  const auto refused = [](const Bytes& file, const std::string& size) {
    const Failure failure = decode_failure(file);
    INFO(failure.text);
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, "is " + size + "; pictures of 1 to 64 million pixels are read"));
  };
  // The header is enough to know it: the picture after it is cut off.
  Bytes png = encode_png({8001, 8000, PNG_COLOR_TYPE_GRAY, 1}, Bytes(size_t{1001} * 8000));
  png.resize(100);
  refused(png, "8001x8000");
  Bytes jpeg = encode_jpeg(10000, 16, JpegColors::kGrey, false, Bytes(160000));
  const Bytes frame{0xff, 0xc0};  // marker, length, depth, height
  const auto found = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
  REQUIRE(found != jpeg.end());
  found[5] = 0xff;
  found[6] = 0;
  refused(jpeg, "10000x65280");
  refused(
      text_bytes("GIF89a") + Bytes{1, 0, 1, 0, 0, 0, 0, 0x2c, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
      "65535x65535");
  refused(text_bytes("P2 4000000000 4000000000 255\n0"), "4000000000x4000000000");
  refused(text_bytes("P2 0 5 255\n"), "0x5");
  refused(text_bytes("P5 8001 8000 255\n0"), "8001x8000");
  Bytes bmp = encode_bmp(1, 1, {0});
  bmp[20] = bmp[24] = 1;  // the third bytes of width and height
  refused(bmp, "65537x65537");
  Bytes tiff = encode_rgba(LeptonicaFormat::kTiff, 12, 10, Bytes(480, 255));
  for (const uint8_t tag : {0, 1}) {  // width and height
    const Bytes entry{tag, 1, 3, 0, 1, 0, 0, 0};
    const auto at = std::search(tiff.begin(), tiff.end(), entry.begin(), entry.end());
    REQUIRE(at != tiff.end());
    at[8] = at[9] = 0xff;
  }
  refused(tiff, "65535x65535");
  Bytes webp = encode_rgba(LeptonicaFormat::kWebp, 12, 10, Bytes(480, 255));
  for (size_t i = 21; i < 24; ++i) webp[i] = 0xff;
  webp[24] |= 0x0f;
  refused(webp, "16384x16384");
}

TEST_CASE("decode: what is not a picture is named") {
  const std::pair<Bytes, std::string> cases[] = {
      {{}, "nothing (it is empty)"},
      {text_bytes("<!doctype HTML><html>"), "an HTML page"},
      {text_bytes("hello, world"), "the text \"hello, world\""},
      {text_bytes("RIFF....WAVE"), "a RIFF file (sound or video)"},
      {text_bytes("%PDF-1.7"), "a PDF document"},
      {gzip(idx_images(1)), "gzip data"},
      {idx_images(1), "an IDX file of images"},
      {Bytes{0, 0, 0, 24} + text_bytes("ftypisom"), "a video"},
      {Bytes{1, 2, 3, 0xfe}, "bytes 01 02 03 fe"}};
  for (const auto& [file, kind] : cases) {
    const Failure failure = decode_failure(file);
    INFO(failure.text);
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(contains(failure.text, "is no picture that can be read: it begins with " + kind));
  }
  for (const auto& [brand, kind] : {std::pair{"heic", "a HEIC picture"},
                                    {"avif", "an AVIF picture"},
                                    {"mif1", "a HEIC or AVIF picture"}}) {
    const Failure failure =
        decode_failure(Bytes{0, 0, 0, 24} + text_bytes(std::string("ftyp") + brand));
    CHECK(failure.code == ExitCode::kBadInput);
    CHECK(
        contains(failure.text, std::string("is ") + kind + ", which is not read; save it as JPEG"));
  }
  Bytes bmp = encode_bmp(1, 1, {0});
  bmp[30] = 1;
  CHECK(contains(decode_failure(bmp).text, "is a compressed BMP picture, which is not read"));
  Bytes animated = with_orientation(encode_rgba(LeptonicaFormat::kWebp, 1, 1, {1, 2, 3, 255}), 1);
  animated[20] |= 2;
  CHECK(contains(decode_failure(animated).text, "is an animated WebP picture"));
}
