#include "host/recognition/recognizer.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "host/error.h"

namespace mnist {
namespace {

constexpr float kSure = 0.9f;      // a lower probability is marked
constexpr float kRunnerUp = 0.1f;  // the second best is named from here on

Reading judge(const FoundDigit& found, std::span<const float, kMnistClasses> probabilities) {
  if (!std::ranges::all_of(probabilities, [](float p) { return std::isfinite(p); }))
    throw Error(ExitCode::kInternal,
                "the probabilities are NaN: with the weights of this model the network overflows. "
                "Train it again with a smaller --learning-rate.");
  Reading reading;
  reading.box = found.box;
  reading.line = found.line;
  reading.image = found.image;
  std::ranges::copy(probabilities, reading.probabilities.begin());

  std::array<int, kMnistClasses> order;
  for (int i = 0; i < kMnistClasses; ++i) order[size_t(i)] = i;
  std::ranges::stable_sort(
      order, [&](int a, int b) { return probabilities[size_t(a)] > probabilities[size_t(b)]; });
  reading.digit = order[0];
  reading.unsure = !(probabilities[size_t(order[0])] >= kSure);
  if (probabilities[size_t(order[1])] >= kRunnerUp) reading.runner_up = order[1];
  return reading;
}

std::string number_of(const std::vector<Reading>& digits) {
  std::string number;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && digits[i].line != digits[i - 1].line) number += '\n';
    number += char('0' + digits[i].digit);
  }
  return number;
}

}  // namespace

Recognizer::Recognizer(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}

PictureReading Recognizer::read(const PictureDigits& picture) {
  PictureReading result{picture.width, picture.height, {}, "", picture.why_none};
  std::vector<uint8_t> images;
  for (const FoundDigit& found : picture.digits)
    images.insert(images.end(), found.image.begin(), found.image.end());
  if (images.empty()) return result;
  const std::vector<float> probabilities =
      engine_->predict(images.data(), int64_t(picture.digits.size()));
  for (size_t i = 0; i < picture.digits.size(); ++i)
    result.digits.push_back(judge(
        picture.digits[i],
        std::span<const float, kMnistClasses>(&probabilities[i * kMnistClasses], kMnistClasses)));
  result.number = number_of(result.digits);
  return result;
}

}  // namespace mnist
