// What a model answers on labelled images: the confusion matrix, the scores of each class, and the
// mistakes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "host/data/image_set.h"
#include "host/engine/engine.h"
#include "host/model/model.h"

namespace mnist {

using Confusion = std::array<std::array<int64_t, kMnistClasses>, kMnistClasses>;  // [truth][answer]

struct ClassScore {
  double precision = 0, recall = 0, f1 = 0;  // 0 where undefined
  int64_t support = 0;                       // images of the class
};

std::array<ClassScore, kMnistClasses> class_scores(const Confusion& confusion);

struct Mistake {
  int64_t image = 0;  // its number in the set, from 0
  int truth = 0, answer = 0;
  float probability = 0;  // of the answer
};

struct Answers {
  int64_t samples = 0;
  Confusion confusion{};
  int64_t wrong = 0;
  std::vector<Mistake> worst;  // of the mistakes, those with the most probable answers first

  double accuracy() const { return samples == 0 ? 0 : 1 - double(wrong) / double(samples); }
};

// The engine's answers to the first `count` images, and at most `mistakes` of the worst ones. The
// model has kMnistClasses classes, and its probabilities are numbers.
Answers find_answers(Engine& engine, const ImageSet& set, int64_t count, size_t mistakes);

}  // namespace mnist
