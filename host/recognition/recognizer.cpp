#include "host/recognition/recognizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "host/error.h"
#include "host/recognition/judgement.h"
#include "host/recognition/second_opinion.h"

namespace mnist {
namespace {

std::vector<float> predict(Engine& engine, std::span<const FoundDigit* const> shapes) {
  std::vector<uint8_t> images;
  for (const FoundDigit* shape : shapes)
    images.insert(images.end(), shape->image.begin(), shape->image.end());
  std::vector<float> probabilities = engine.predict(images.data(), int64_t(shapes.size()));
  if (!std::ranges::all_of(probabilities, [](float p) { return std::isfinite(p); }))
    throw Error(ExitCode::kInternal,
                "the probabilities are NaN: with the weights of this model the network overflows. "
                "Train it again with a smaller --learning-rate.");
  return probabilities;
}

template <size_t classes>
std::span<const float, classes> row(const std::vector<float>& probabilities, size_t i) {
  return std::span(probabilities).subspan(i * classes).template first<classes>();
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

Recognizer::Recognizer(std::unique_ptr<Engine> engine)
    : Recognizer(std::move(engine), make_second_opinion()) {}

Recognizer::Recognizer(std::unique_ptr<Engine> engine, std::unique_ptr<Engine> second_opinion)
    : engine_(std::move(engine)), second_opinion_(std::move(second_opinion)) {}

PictureReading Recognizer::read(const PictureDigits& picture) {
  PictureReading result{picture.width, picture.height, {}, "", picture.why_none};
  std::vector<const FoundDigit*> shapes;  // each one whole, then in parts
  for (const FoundDigit& whole : picture.digits) {
    shapes.push_back(&whole);
    for (const FoundDigit& part : whole.parts) shapes.push_back(&part);
  }
  if (shapes.empty()) return result;
  const std::vector<float> model = predict(*engine_, shapes);
  const std::vector<float> second = predict(*second_opinion_, shapes);

  std::vector<Judgement> judgements;
  for (size_t i = 0; i < shapes.size();) {
    const auto judged = [&](size_t k) {
      return judge(*shapes[k], row<kMnistClasses>(model, k), row<kSecondClasses>(second, k));
    };
    const Judgement whole = judged(i);
    std::vector<Judgement> parts;
    for (size_t part = 0; part < shapes[i]->parts.size(); ++part)
      parts.push_back(judged(i + 1 + part));
    i += 1 + parts.size();
    if (!parts.empty() && is_rather(parts, whole))
      judgements.insert(judgements.end(), parts.begin(), parts.end());
    else
      judgements.push_back(whole);
  }

  if (is_text(judgements)) {
    const auto strange = size_t(std::ranges::count_if(judgements, is_strange));
    result.why_none =
        strange == judgements.size()
            ? "nothing in the picture looks like a digit"
            : fmt::format(
                  "{} of the {} shapes in the picture are no digits; if it is text with a number "
                  "in it, cut out the number",
                  strange, judgements.size());
    return result;
  }
  for (const Judgement& judgement : judgements) result.digits.push_back(judgement.reading);
  result.number = number_of(result.digits);
  return result;
}

}  // namespace mnist
