// Numbers as text, whatever the locale, and foreign text made fit to print.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mnist {

// The whole of `text` as a number; nothing if it is anything else, or out of range.
template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// "225,034"
inline std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  const int first = number < 0 ? 1 : 0;
  for (int i = int(digits.size()) - 3; i > first; i -= 3) digits.insert(size_t(i), ",");
  return digits;
}

// A name, or a message with one in it, for a terminal: control characters as \n, \x1b and so on.
inline std::string visible(std::string_view text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (c == '\n')
      shown += "\\n";
    else if (c < ' ' || c == 0x7F)
      shown += {'\\', 'x', kHex[c >> 4], kHex[c & 15]};
    else if (c == 0xC2 && next >= 0x80 && next < 0xA0)  // U+0080 to U+009F in UTF-8
      shown += {'\\', 'x', kHex[next >> 4], kHex[text[++i] & 15]};
    else
      shown += text[i];
  }
  return shown;
}

// Text from a file that is shown to the user: no line breaks, no terminal commands.
inline std::string printable(std::string_view text, size_t longest) {
  std::string shown(text.substr(0, longest));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text.size() > longest ? shown + "..." : shown;
}

}  // namespace mnist
