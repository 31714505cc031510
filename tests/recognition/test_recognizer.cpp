// Readings and their JSON, with two engines that say what the shape's first pixel tells them to.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "host/recognition/reading_json.h"
#include "host/recognition/recognizer.h"
#include "host/recognition/second_opinion.h"
#include "tests/support/catch.h"
#include "tests/support/error_code.h"
#include "tests/support/stand_in_engine.h"

namespace mnist {
namespace {

using test::StandInEngine;

// What both engines are to answer for one shape.
struct Answers {
  int digit = 0;
  float model = 1;       // the model's probability of the digit
  float second = 1;      // the second opinion's
  float no_digit = 0;    // the second opinion's of "no digit"
  int other = -1;        // gets what the model leaves over; -1: all others share it
  int second_other = 9;  // gets what the second opinion leaves over
};

class Shapes {
 public:
  FoundDigit shape(const Answers& answers, int line = 0) {
    FoundDigit found;
    found.box = {int(answers_.size()) * 10, 5, 8, 12};
    found.line = line;
    found.image[0] = uint8_t(answers_.size());
    answers_.push_back(answers);
    return found;
  }

  PictureReading read(std::vector<FoundDigit> shapes) const {
    Recognizer recognizer(
        std::make_unique<StandInEngine>([this](auto image) { return model(image[0]); }),
        std::make_unique<StandInEngine>([this](auto image) { return second(image[0]); }));
    return recognizer.read({640, 480, std::move(shapes), ""});
  }

 private:
  std::vector<float> model(size_t shape) const {
    const Answers& a = answers_.at(shape);
    std::vector<float> row(kMnistClasses, a.other < 0 ? (1 - a.model) / 9 : 0);
    if (a.other >= 0) row[size_t(a.other)] = 1 - a.model;
    row[size_t(a.digit)] = a.model;
    return row;
  }
  std::vector<float> second(size_t shape) const {
    const Answers& a = answers_.at(shape);
    std::vector<float> row(kSecondClasses, 0);
    row[size_t(a.second_other)] = 1 - a.second - a.no_digit;
    row[size_t(a.digit)] = a.second;
    row[kNoDigit] = a.no_digit;
    return row;
  }

  std::vector<Answers> answers_;
};

constexpr Answers kStrange{.digit = 4, .model = 0.99F, .second = 0.1F, .no_digit = 0.9F};

}  // namespace

TEST_CASE("one digit gives one reading") {
  Shapes shapes;
  const PictureReading reading = shapes.read({shapes.shape({.digit = 7, .model = 0.97F})});
  REQUIRE(reading.digits.size() == 1);
  CHECK(reading.width == 640);
  CHECK(reading.height == 480);
  CHECK(reading.digits[0].digit == 7);
  CHECK(reading.digits[0].probabilities[7] == 0.97F);
  CHECK(reading.digits[0].box.height == 12);
  CHECK(!reading.digits[0].unsure);
  CHECK(!reading.digits[0].runner_up);
  CHECK(reading.number == "7");
  CHECK(reading.why_none.empty());
}

TEST_CASE("a digit is unsure unless both networks give it half") {
  Shapes shapes;
  const auto unsure = [&](const Answers& answers) {
    return shapes.read({shapes.shape(answers)}).digits.at(0).unsure;
  };
  CHECK(!unsure({.digit = 3, .model = 0.5F, .second = 0.5F}));
  CHECK(unsure({.digit = 3, .model = 0.49F}));
  CHECK(unsure({.digit = 3, .second = 0.49F}));
  CHECK(unsure({.digit = 3, .second = 0.49F, .no_digit = 0.51F}));
  CHECK(unsure(kStrange));  // a single letter is marked, whatever the model claims
}

TEST_CASE("a runner-up is what either network gives a tenth") {
  Shapes shapes;
  const auto runner_up = [&](const Answers& answers) {
    return shapes.read({shapes.shape(answers)}).digits.at(0).runner_up.value_or(-1);
  };
  CHECK(runner_up({.digit = 3, .model = 0.88F, .other = 8}) == 8);
  CHECK(runner_up({.digit = 3, .model = 0.92F, .other = 8}) == -1);
  CHECK(runner_up({.digit = 3, .second = 0.8F, .second_other = 5}) == 5);
  CHECK(runner_up({.digit = 3, .second = 0.8F, .no_digit = 0.2F}) == -1);
  CHECK(runner_up({.digit = 3, .model = 0.7F, .second = 0.8F, .other = 8, .second_other = 5}) == 8);
}

TEST_CASE("digits read as a number, lines kept") {
  Shapes shapes;
  const std::vector<FoundDigit> found = {shapes.shape({.digit = 2}, 0), shapes.shape({.digit = 0}),
                                         shapes.shape({.digit = 6}, 1),
                                         shapes.shape({.digit = 1}, 3)};
  const PictureReading reading = shapes.read(found);
  CHECK(reading.number == "20\n6\n1");
  CHECK(reading.digits.at(2).line == 1);
}

TEST_CASE("parts are read where each is surer than the whole") {
  Shapes shapes;
  FoundDigit whole = shapes.shape({.digit = 8, .second = 0.6F}, 2);
  SECTION("surer") {
    whole.parts = {shapes.shape({.digit = 1, .model = 0.7F}, 2), shapes.shape({.digit = 3}, 2)};
    CHECK(shapes.read({whole, shapes.shape({.digit = 5}, 2)}).number == "135");
  }
  SECTION("one of them is not") {
    whole.parts = {shapes.shape({.digit = 1, .second = 0.5F}), shapes.shape({.digit = 3})};
    CHECK(shapes.read({whole, shapes.shape({.digit = 5}, 2)}).number == "85");
  }
  SECTION("one of them is rather no digit") {
    whole.parts = {shapes.shape({.digit = 1, .second = 0.7F, .no_digit = 0.3F}),
                   shapes.shape({.digit = 3})};
    CHECK(shapes.read({whole, shapes.shape({.digit = 5}, 2)}).number == "85");
  }
  SECTION("a sure pair that the second opinion calls no digit") {
    FoundDigit pair = shapes.shape(kStrange);
    pair.parts = {shapes.shape({.digit = 1}), shapes.shape({.digit = 3, .second = 0.2F})};
    const PictureReading reading = shapes.read({pair});
    CHECK(reading.number == "13");
    CHECK(!reading.digits.at(0).unsure);
    CHECK(reading.digits.at(1).unsure);
  }
}

TEST_CASE("text is refused with the reason, digits with something strange among them are not") {
  Shapes shapes;
  const auto read = [&](int digits, int strange) {
    std::vector<FoundDigit> found;
    for (int i = 0; i < digits; ++i) found.push_back(shapes.shape({.digit = 1}));
    for (int i = 0; i < strange; ++i) found.push_back(shapes.shape(kStrange));
    return shapes.read(found);
  };
  CHECK(read(0, 1).number == "4");
  CHECK(read(1, 1).number == "14");
  CHECK(read(0, 2).number.empty());
  CHECK(read(0, 2).why_none == "nothing in the picture looks like a digit");
  CHECK(read(1, 2).number.empty());
  CHECK(read(2, 2).number == "1144");
  CHECK(read(8, 4).number == "111111114444");
  const PictureReading text = read(7, 4);
  CHECK(text.digits.empty());
  CHECK(text.number.empty());
  CHECK(text.why_none ==
        "4 of the 11 shapes in the picture are no digits; if it is text with a number in it, cut "
        "out the number");
}

TEST_CASE("a picture without shapes keeps its reason") {
  Recognizer recognizer(std::make_unique<StandInEngine>(nullptr),
                        std::make_unique<StandInEngine>(nullptr));
  const PictureReading reading = recognizer.read({20, 10, {}, "the picture is blank"});
  CHECK(reading.digits.empty());
  CHECK(reading.why_none == "the picture is blank");
}

TEST_CASE("NaN is an error, not a digit") {
  Shapes shapes;
  CHECK(code_of([&] { shapes.read({shapes.shape({.digit = 1, .model = NAN})}); }) ==
        int(ExitCode::kInternal));
}

TEST_CASE("readings as JSON") {
  Shapes shapes;
  const std::vector<FoundDigit> two = {
      shapes.shape({.digit = 2, .model = 0.75F, .other = 7}),
      shapes.shape({.digit = 5, .second = 0.25F, .no_digit = 0.75F}, 1)};
  const auto json = reading_json(shapes.read(two));
  CHECK(json.dump() == R"({"digit":null,"probabilities":null,"digits":[)"
                       R"({"digit":2,"probability":0.75,)"
                       R"("probabilities":[0.0,0.0,0.75,0.0,0.0,0.0,0.0,0.25,0.0,0.0],)"
                       R"("box":[0,5,8,12],"line":0,"unsure":false,"runner_up":7},)"
                       R"({"digit":5,"probability":1.0,)"
                       R"("probabilities":[0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0],)"
                       R"("box":[10,5,8,12],"line":1,"unsure":true,"runner_up":null}],)"
                       R"("number":"2\n5","reason":null})");

  const auto single = reading_json(shapes.read({two[1]}));
  CHECK(single["digit"] == 5);
  CHECK(single["probabilities"].size() == 10);
  CHECK(single["probabilities"] == single["digits"].at(0)["probabilities"]);

  PictureReading blank;
  blank.why_none = "the picture is blank";
  CHECK(reading_json(blank).dump() ==
        R"({"digit":null,"probabilities":null,"digits":[],"number":"",)"
        R"("reason":"the picture is blank"})");
}

}  // namespace mnist
