#include "host/recognition/reading_json.h"

namespace mnist {
namespace {

using Json = nlohmann::ordered_json;

Json digit_json(const Reading& reading) {
  const Box& box = reading.box;
  return {{"digit", reading.digit},
          {"probability", reading.probabilities[size_t(reading.digit)]},
          {"probabilities", reading.probabilities},
          {"box", {box.x, box.y, box.width, box.height}},
          {"line", reading.line},
          {"unsure", reading.unsure},
          {"runner_up", reading.runner_up ? Json(*reading.runner_up) : Json()}};
}

}  // namespace

Json reading_json(const PictureReading& reading) {
  Json json = {{"digit", nullptr}, {"probabilities", nullptr}, {"digits", Json::array()}};
  for (const Reading& digit : reading.digits) json["digits"].push_back(digit_json(digit));
  if (reading.digits.size() == 1) {
    json["digit"] = reading.digits[0].digit;
    json["probabilities"] = reading.digits[0].probabilities;
  }
  json["number"] = reading.number;
  json["reason"] = reading.digits.empty() ? Json(reading.why_none) : Json();
  return json;
}

}  // namespace mnist
