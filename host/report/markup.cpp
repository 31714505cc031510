#include "host/report/markup.h"

#include <cstddef>
#include <cstdint>

namespace mnist {
namespace {

// Bytes of the UTF-8 character that `text` begins with; 0 if it begins with none that XML allows.
size_t character(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : uint8_t{0}; };
  const uint8_t first = byte(0);
  if (first < 0x80) {
    const bool allowed = first >= 0x20 || first == '\t' || first == '\n' || first == '\r';
    return allowed && first != 0x7f ? 1 : 0;
  }
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  uint32_t code = first & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};  // by size
  const bool control = code < 0xa0, surrogate = code >= 0xd800 && code < 0xe000;
  const bool none = (code & 0xfffeu) == 0xfffeu || code > 0x10ffff;
  return code < kLeast[size] || control || surrogate || none ? 0 : size;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t size = character(text);
    switch (text.front()) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += size > 0 ? text.substr(0, size) : "\xef\xbf\xbd";
    }
    text.remove_prefix(size > 0 ? size : 1);
  }
  return result;
}

}  // namespace mnist
