// Picture files to a 28x28 digit.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace mnist {

struct GrayImage {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;  // [height,width], 0 = black
};

// Reads a PNG, JPEG or PGM (P2, P5) as grey; transparency is composited on white. At most 64 MB and
// 64 megapixels. Throws Error: kMissingInput, kBadInput.
GrayImage read_image(const std::filesystem::path& path);

// [28,28], ink 255 on 0. A 28x28 image whose border is dark is taken as it is; one whose border is
// light is inverted; a larger one is inverted likewise and scaled down (area average) so that it
// fits with its aspect ratio kept.
std::array<uint8_t, 784> to_mnist(const GrayImage& image);

}  // namespace mnist
