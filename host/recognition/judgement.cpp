#include "host/recognition/judgement.h"

#include <algorithm>

namespace mnist {
namespace {

constexpr float kSure = 0.5F;   // what both networks must give to a digit
constexpr float kClose = 0.1F;  // what one of them gives to a runner-up

std::optional<int> runner_up(int digit, std::span<const float, kMnistClasses> model,
                             std::span<const float, kSecondClasses> second) {
  std::optional<int> best;
  float most = kClose;
  for (int other = 0; other < kMnistClasses; ++other) {
    const float probability = std::max(model[size_t(other)], second[size_t(other)]);
    if (other == digit || probability < most) continue;
    best = other;
    most = probability;
  }
  return best;
}

}  // namespace

Judgement judge(const FoundDigit& shape, std::span<const float, kMnistClasses> model,
                std::span<const float, kSecondClasses> second) {
  Judgement judgement;
  Reading& reading = judgement.reading;
  reading.box = shape.box;
  reading.line = shape.line;
  reading.image = shape.image;
  std::ranges::copy(model, reading.probabilities.begin());
  reading.digit = int(std::ranges::max_element(model) - model.begin());
  judgement.certainty = std::min(model[size_t(reading.digit)], second[size_t(reading.digit)]);
  judgement.no_digit = second[kNoDigit];
  reading.unsure = judgement.certainty < kSure;
  reading.runner_up = runner_up(reading.digit, model, second);
  return judgement;
}

bool is_rather(std::span<const Judgement> parts, const Judgement& whole) {
  return std::ranges::all_of(parts, [&](const Judgement& part) {
    return part.certainty > whole.certainty && part.no_digit <= whole.no_digit;
  });
}

bool is_strange(const Judgement& shape) {
  return shape.no_digit > kSure;
}

// One shape in four, and one more: a number may have a sign or a strange digit.
bool is_text(std::span<const Judgement> shapes) {
  const auto strange = std::ranges::count_if(shapes, is_strange);
  return 4 * (strange - 1) > std::ptrdiff_t(shapes.size());
}

}  // namespace mnist
