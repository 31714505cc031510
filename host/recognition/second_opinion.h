// A small network that comes with the program and knows what is no digit.
#pragma once

#include <memory>

#include "host/engine/engine.h"

namespace mnist {

inline constexpr int kSecondClasses = 11;
inline constexpr int kNoDigit = 10;  // of these: letters, signs, scribbles, digits that touch

// Eleven classes of 28x28 images: the digits, and kNoDigit. A network of ten classes has to call a
// letter one of its digits, and is often sure of it; this one was trained on both. It runs on the
// processor. tools/lab/second_opinion.py made its weights.
std::unique_ptr<Engine> make_second_opinion();

}  // namespace mnist
