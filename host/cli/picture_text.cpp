#include "host/cli/picture_text.h"

#include <fmt/format.h>

#include <string_view>

#include "host/text.h"

namespace mnist::cli {
namespace {

std::string percent(const Reading& reading, int digit) {
  return fmt::format("{:.2f} %", 100.0 * reading.probabilities[size_t(digit)]);
}

std::string digit_text(const Reading& reading) {
  std::string text = fmt::format("{} ({}", reading.digit, percent(reading, reading.digit));
  if (reading.runner_up)
    text += fmt::format(", or {} {}", *reading.runner_up, percent(reading, *reading.runner_up));
  // The model is sure of it and has no other digit in mind: the second opinion objects.
  const bool stranger = !reading.runner_up && reading.probabilities[size_t(reading.digit)] >= 0.5F;
  return text + (reading.unsure ? stranger ? "; unsure, perhaps no digit)" : "; unsure)" : ")");
}

}  // namespace

std::string reading_text(const std::string& file, const PictureReading& reading) {
  const std::string name = visible(file);
  if (reading.digits.empty()) return fmt::format("{}: no digit: {}\n", name, reading.why_none);
  std::string text;
  for (auto first = reading.digits.begin(); first != reading.digits.end();) {
    std::string number, each;
    auto digit = first;
    for (; digit != reading.digits.end() && digit->line == first->line; ++digit) {
      number += char('0' + digit->digit);
      each += (each.empty() ? "" : ", ") + digit_text(*digit);
    }
    const std::string whole = number.size() > 1 ? number + ": " : "";
    text += fmt::format("{}: {}{}\n", name, whole, each);
    first = digit;
  }
  return text;
}

std::string images_text(const PictureReading& reading) {
  constexpr std::string_view kDensity = " .:-=+*#%@";
  constexpr size_t kSide = 28;
  std::string text;
  for (const Reading& digit : reading.digits) {
    text += fmt::format("+- {} {:->{}}\n", digit.digit, '+', 2 * kSide - 3);
    for (size_t y = 0; y < kSide; ++y) {
      text += '|';
      for (size_t x = 0; x < kSide; ++x)  // a character is twice as high as wide
        text.append(2, kDensity[size_t(digit.image[y * kSide + x]) * kDensity.size() / 256]);
      text += "|\n";
    }
    text += fmt::format("+{:->{}}\n", '+', 2 * kSide + 1);
  }
  return text;
}

}  // namespace mnist::cli
