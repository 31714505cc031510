// Found digits to the number that a network reads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/data/pictures/picture_digits.h"
#include "host/engine/engine.h"

namespace mnist {

struct Reading {
  Box box;
  int line = 0;
  std::array<uint8_t, 28 * 28> image{};   // what the network saw
  int digit = 0;                          // the most probable one
  std::array<float, 10> probabilities{};  // the model's
  // Another digit that the model or the second opinion gives at least 0.1; the likeliest.
  std::optional<int> runner_up;
  bool unsure = false;  // one of the two gives the digit less than 0.5
};

struct PictureReading {
  int width = 0, height = 0;    // of the picture as viewed
  std::vector<Reading> digits;  // in reading order
  std::string number;           // "2026"; lines of writing are separated by "\n"; "" where none
  std::string why_none;         // where `digits` is empty: "the picture is blank"
};

class Recognizer {
 public:
  // The engine has a model of 28x28 images and ten classes; the second opinion's has eleven, see
  // second_opinion.h, and is the program's own unless given.
  explicit Recognizer(std::unique_ptr<Engine> engine);
  Recognizer(std::unique_ptr<Engine> engine, std::unique_ptr<Engine> second_opinion);

  // Throws Error(kInternal) if a probability is NaN. One thread at a time.
  PictureReading read(const PictureDigits& picture);

  const DeviceInfo& device() const { return engine_->device(); }

 private:
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Engine> second_opinion_;
};

}  // namespace mnist
