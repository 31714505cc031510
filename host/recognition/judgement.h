// What two networks say of a shape, and what follows from it.
#pragma once

#include <span>

#include "host/data/pictures/picture_digits.h"
#include "host/model/model.h"
#include "host/recognition/recognizer.h"
#include "host/recognition/second_opinion.h"

namespace mnist {

struct Judgement {
  Reading reading;      // the model's digit and probabilities
  float certainty = 0;  // the lesser of what the model and the second opinion give to this digit
  float no_digit = 0;   // the second opinion's probability that it is none
};

// `model`, `second`: probabilities, of which none is NaN.
Judgement judge(const FoundDigit& shape, std::span<const float, kMnistClasses> model,
                std::span<const float, kSecondClasses> second);

// Whether `parts`, not empty, are to be read rather than the shape that they make up.
bool is_rather(std::span<const Judgement> parts, const Judgement& whole);

// Whether it is no digit rather than one.
bool is_strange(const Judgement& shape);

// Whether so many of the shapes in a picture are strange that none of them is to be read.
bool is_text(std::span<const Judgement> shapes);

}  // namespace mnist
