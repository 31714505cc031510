// What was read on a picture as JSON, for scripts and for the page.
#pragma once

#include <nlohmann/json.hpp>

#include "host/recognition/recognizer.h"

namespace mnist {

// {"digit", "probabilities", "digits": [{"digit", "probability", "probabilities", "box": [x, y,
// width, height], "line", "unsure", "runner_up"}], "number", "reason"}; the first two are null
// unless there is exactly one digit, the last where there is one.
nlohmann::ordered_json reading_json(const PictureReading& reading);

}  // namespace mnist
