#include "host/data/pictures/annotate.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "host/error.h"

namespace mnist {
namespace {

struct Color {
  uint8_t red, green, blue;
  uint32_t pixel() const {
    return uint32_t(red) << 24 | uint32_t(green) << 16 | uint32_t(blue) << 8;
  }
};
// Told apart by the colour-blind, and dark enough for white letters.
constexpr Color kSure{0, 92, 185}, kUnsure{191, 72, 0};

struct DestroyFont {
  void operator()(L_BMF* font) const { bmfDestroy(&font); }
};
using Font = std::unique_ptr<L_BMF, DestroyFont>;

// White letters on the colour, `scale` times as large as the font has them.
PixPtr text_plate(L_BMF* font, const std::string& text, Color color, int scale) {
  constexpr int kMargin = 3;
  int text_width = 0;
  bmfGetStringWidth(font, text.c_str(), &text_width);
  const int baseline = font->baselinetab[size_t('0')];
  PixPtr plate(pixCreate(text_width + 2 * kMargin, font->lineheight + 2 * kMargin, 32));
  pixSetAllArbitrary(plate.get(), color.pixel());
  pixSetTextline(plate.get(), font, text.c_str(), 0xffffff00, kMargin, kMargin + baseline, nullptr,
                 nullptr);
  return PixPtr(pixExpandReplicate(plate.get(), scale));
}

}  // namespace

std::vector<uint8_t> draw_labels(const DecodedPicture& picture,
                                 std::span<const PictureLabel> labels) {
  const PixPtr canvas(pixConvert8To32(picture.grey.get()));
  const int width = pixGetWidth(canvas.get()), height = pixGetHeight(canvas.get());
  const int longer = std::max(width, height);
  const Font font(bmfCreate(nullptr, longer < 500 ? 8 : 12));
  if (!canvas || !font) throw Error(ExitCode::kInternal, "there is not enough memory to draw");
  const double ratio = double(width) / picture.width;
  const int scale = std::max(1, longer / 1000), line = 2 * scale;
  for (const PictureLabel& label : labels) {
    const Color color = label.unsure ? kUnsure : kSure;
    const int x = int(label.box.x * ratio), y = int(label.box.y * ratio);
    const int box_width = int(label.box.width * ratio), box_height = int(label.box.height * ratio);
    // The frame lies around the box, so that it does not cover the ink.
    const auto fill = [&](int left, int top, int fill_width, int fill_height) {
      BOX* area = boxCreate(left, top, fill_width, fill_height);
      pixSetInRectArbitrary(canvas.get(), area, color.pixel());
      boxDestroy(&area);
    };
    fill(x - line, y - line, box_width + 2 * line, line);
    fill(x - line, y + box_height, box_width + 2 * line, line);
    fill(x - line, y - line, line, box_height + 2 * line);
    fill(x + box_width, y - line, line, box_height + 2 * line);

    const PixPtr plate = text_plate(font.get(), label.text, color, scale);
    const int plate_width = pixGetWidth(plate.get()), plate_height = pixGetHeight(plate.get());
    // Above the frame; where there is no place, below or else in it.
    int top = y - line - plate_height;
    if (top < 0) top = y + box_height + line;
    if (top + plate_height > height) top = y;
    pixRasterop(canvas.get(), std::clamp(x - line, 0, std::max(0, width - plate_width)), top,
                plate_width, plate_height, PIX_SRC, plate.get(), 0, 0);
  }

  l_uint8* data = nullptr;
  size_t size = 0;
  if (pixWriteMemPng(&data, &size, canvas.get(), 0) != 0)
    throw Error(ExitCode::kInternal, "there is not enough memory for a PNG file");
  std::vector<uint8_t> file(data, data + size);
  std::free(data);  // NOLINT(cppcoreguidelines-no-malloc): Leptonica's
  return file;
}

}  // namespace mnist
