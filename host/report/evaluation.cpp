#include "host/report/evaluation.h"

#include <algorithm>

namespace mnist {
namespace {

constexpr int kClasses = kMnistClasses;

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

}  // namespace

std::array<ClassScore, kClasses> class_scores(const Confusion& confusion) {
  std::array<ClassScore, kClasses> scores;
  for (size_t c = 0; c < kClasses; ++c) {
    ClassScore& score = scores[c];
    int64_t answered = 0;
    for (size_t i = 0; i < kClasses; ++i) {
      answered += confusion[i][c];
      score.support += confusion[c][i];
    }
    const auto hits = double(confusion[c][c]);
    score.precision = ratio(hits, double(answered));
    score.recall = ratio(hits, double(score.support));
    score.f1 = ratio(2 * score.precision * score.recall, score.precision + score.recall);
  }
  return scores;
}

Answers find_answers(Engine& engine, const ImageSet& set, int64_t count, size_t mistakes) {
  Answers answers;
  answers.samples = count;
  const int64_t pixels = int64_t{set.height} * set.width;
  // In parts, so that the buffers stay small however large the set.
  constexpr int64_t kPart = 2000;
  for (int64_t first = 0; first < count; first += kPart) {
    const int64_t part = std::min(kPart, count - first);
    const std::vector<float> probabilities =
        engine.predict(set.images.data() + first * pixels, part);
    for (int64_t i = 0; i < part; ++i) {
      const auto row = probabilities.begin() + i * kClasses;
      const auto most = std::max_element(row, row + kClasses);
      const int truth = set.labels[size_t(first + i)], answer = int(most - row);
      ++answers.confusion[size_t(truth)][size_t(answer)];
      if (truth != answer) answers.worst.push_back({first + i, truth, answer, *most});
    }
  }
  answers.wrong = int64_t(answers.worst.size());
  std::stable_sort(
      answers.worst.begin(), answers.worst.end(),
      [](const Mistake& a, const Mistake& b) { return a.probability > b.probability; });
  answers.worst.resize(std::min(answers.worst.size(), mistakes));
  return answers;
}

}  // namespace mnist
