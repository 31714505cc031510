// EXIF is a TIFF directory inside other files. Only one of its tags matters here, for which a
// library that parses all of it would be a large surface.
#include "host/data/pictures/exif.h"

#include <algorithm>
#include <string_view>

#include "host/data/pictures/picture_bytes.h"

namespace mnist {
namespace {

bool begins(Bytes bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), bytes.begin(),
                    [](char c, uint8_t b) { return uint8_t(c) == b; });
}

Bytes from(Bytes bytes, size_t position) {
  return bytes.subspan(std::min(position, bytes.size()));
}

// The orientation in a TIFF directory.
int orientation_in(Bytes exif) {
  constexpr uint32_t kOrientation = 0x112, kEntryBytes = 12;
  if (begins(exif, {"Exif\0\0", 6})) exif = from(exif, 6);
  const bool big_endian = begins(exif, "MM");
  if (!big_endian && !begins(exif, "II")) return 1;
  const size_t directory = number_at(exif, 4, 4, big_endian);
  const size_t entries = number_at(exif, directory, 2, big_endian);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (entry + kEntryBytes > exif.size()) return 1;
    if (number_at(exif, entry, 2, big_endian) != kOrientation) continue;
    const uint32_t value = number_at(exif, entry + 8, 2, big_endian);
    return value >= 1 && value <= 8 ? int(value) : 1;
  }
  return 1;
}

// A JPEG file is a chain of segments up to its first scan: ff, kind, length (with itself), data.
Bytes exif_of_jpeg(Bytes file) {
  size_t position = 2;
  while (position + 4 <= file.size() && file[position] == 0xff) {
    const uint8_t kind = file[position + 1];
    if (kind == 0xff) {  // padding
      ++position;
      continue;
    }
    if (kind == 0xda) break;
    const size_t length = number_at(file, position + 2, 2, true);
    const Bytes data = from(file, position + 4);
    if (kind == 0xe1 && begins(data, {"Exif\0\0", 6}))
      return data.first(std::min(data.size(), std::max<size_t>(length, 2) - 2));
    position += 2 + std::max<size_t>(length, 2);
  }
  return {};
}

// Chunks with a length and a four-letter kind, in the order of PNG or of WebP (RIFF).
Bytes chunk(Bytes file, size_t position, std::string_view kind, bool png) {
  while (position + 8 <= file.size()) {
    const size_t length = number_at(file, position + (png ? 0 : 4), 4, png);
    const Bytes data = from(file, position + 8);
    if (begins(from(file, position + (png ? 4 : 0)), kind))
      return data.first(std::min(data.size(), length));
    // PNG has a checksum behind the data, RIFF fills up to an even length.
    position += 8 + length + (png ? 4 : length % 2);
  }
  return {};
}

}  // namespace

int exif_orientation(Bytes file) {
  if (begins(file, "\xff\xd8")) return orientation_in(exif_of_jpeg(file));
  if (begins(file, "\x89PNG")) return orientation_in(chunk(file, 8, "eXIf", true));
  if (begins(file, "RIFF")) return orientation_in(chunk(file, 12, "EXIF", false));
  return 1;
}

}  // namespace mnist
