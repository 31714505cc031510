// Confusion matrix, scores and mistakes, of answers that are given.
#include <cmath>
#include <span>
#include <vector>

#include "host/report/evaluation.h"
#include "tests/support/catch.h"
#include "tests/support/stand_in_engine.h"

namespace mnist {
namespace {

// Answers by the first pixels of an image: the digit, and its probability in percent.
std::vector<float> oracle(std::span<const uint8_t> image) {
  std::vector<float> row(kMnistClasses);
  row[image[0]] = float(image[1]) / 100;
  return row;
}

struct Case {
  int truth, answer, percent;
};

Answers answers_to(const std::vector<Case>& cases, int64_t count, size_t mistakes) {
  ImageSet set{.count = int64_t(cases.size()), .height = 1, .width = 2, .images = {}, .labels = {}};
  for (const Case& c : cases) {
    set.labels.push_back(uint8_t(c.truth));
    set.images.insert(set.images.end(), {uint8_t(c.answer), uint8_t(c.percent)});
  }
  test::StandInEngine engine(oracle, 2);
  return find_answers(engine, set, count, mistakes);
}

}  // namespace

TEST_CASE("mistakes are listed with the surest first", "[evaluation]") {
  const std::vector<Case> cases{{1, 1, 99}, {2, 3, 50}, {4, 9, 90}, {5, 6, 90}, {7, 1, 60}};
  const Answers answers = answers_to(cases, 5, 3);
  CHECK(answers.samples == 5);
  CHECK(answers.wrong == 4);
  CHECK(std::fabs(answers.accuracy() - 0.2) < 1e-12);
  REQUIRE(answers.worst.size() == 3);
  CHECK(answers.worst[0].image == 2);  // before 3, which is as sure
  CHECK(answers.worst[1].image == 3);
  CHECK(answers.worst[2].image == 4);
  CHECK((answers.worst[0].truth == 4 && answers.worst[0].answer == 9));
  CHECK(answers.worst[0].probability == 0.9f);
  CHECK(answers_to(cases, 5, 0).worst.empty());
  CHECK(answers_to(cases, 5, 0).wrong == 4);
  CHECK(answers_to(cases, 2, 9).worst.size() == 1);
}

TEST_CASE("no image is left out or counted twice, however many there are", "[evaluation]") {
  std::vector<Case> cases;
  for (int i = 0; i < 4321; ++i) cases.push_back({i % 10, i % 7, 80});
  const Answers answers = answers_to(cases, 4321, 5000);
  Confusion expected{};
  for (const Case& c : cases) ++expected[size_t(c.truth)][size_t(c.answer)];
  CHECK(answers.confusion == expected);
  CHECK(int64_t(answers.worst.size()) == answers.wrong);
  for (size_t i = 1; i < answers.worst.size(); ++i)
    REQUIRE(answers.worst[i - 1].image < answers.worst[i].image);
}

TEST_CASE("scores of each class", "[evaluation]") {
  Confusion confusion{};
  confusion[0] = {6, 2};     // 8 images
  confusion[1] = {1, 3, 4};  // 8 images
  const auto scores = class_scores(confusion);
  CHECK((scores[0].support == 8 && scores[0].recall == 0.75));
  CHECK(std::fabs(scores[0].precision - 6.0 / 7) < 1e-15);
  CHECK(std::fabs(scores[0].f1 - 0.8) < 1e-12);
  CHECK((scores[1].precision == 0.6 && scores[1].recall == 0.375));
  // Class 2 has no image, class 9 neither images nor answers.
  CHECK((scores[2].support == 0 && scores[2].recall == 0 && scores[2].precision == 0));
  CHECK((scores[9].f1 == 0 && scores[9].precision == 0));
}

}  // namespace mnist
