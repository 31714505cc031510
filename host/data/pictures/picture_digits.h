// A picture file to the handwritten digits on it, each prepared as MNIST's were.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mnist {

inline constexpr size_t kMaxPictureBytes = 64000000;

// In pixels of the picture as it is viewed (after the camera's rotation); the origin is its top
// left corner.
struct Box {
  int x = 0, y = 0, width = 0, height = 0;
};

struct FoundDigit {
  Box box;
  int line = 0;                          // of writing, 0 = the topmost
  std::array<uint8_t, 28 * 28> image{};  // [28,28], ink 255 on 0
  // What to read in its place, left to right, if this is digits that touch; empty where its shape
  // rules that out.
  std::vector<FoundDigit> parts;
};

struct PictureDigits {
  int width = 0, height = 0;       // as viewed
  std::vector<FoundDigit> digits;  // in reading order: by line, then from left to right
  std::string why_none;            // where there is none: "the picture is blank"
};

enum class Ink { kAuto, kDark, kLight };  // against what it is written on

struct FindOptions {
  Ink ink = Ink::kAuto;
  bool single = false;  // all strokes are one digit
};

// `file`: the bytes of a PNG, JPEG, GIF, BMP, WebP, TIFF or PNM file; the work is done in a
// Sandbox. Throws Error(kBadInput) if it is damaged, of another kind, or above 64 million pixels.
PictureDigits find_picture_digits(std::span<const uint8_t> file, const FindOptions& options);

struct PictureLabel {
  Box box;
  std::string text;  // printable ASCII
  bool unsure = false;
};

// The picture in grey with the boxes and their texts in colour, as the bytes of a PNG file. Errors
// as above.
std::vector<uint8_t> annotate_picture(std::span<const uint8_t> file,
                                      std::span<const PictureLabel> labels);

// 28x28 grey levels as the bytes of a PNG file.
std::vector<uint8_t> png_of_digit(const std::array<uint8_t, 28 * 28>& image);

}  // namespace mnist
