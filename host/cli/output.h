// Results go to standard output through one object, messages to standard error.
#pragma once

#include <cstdint>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "host/text.h"

namespace mnist::cli {

using Json = nlohmann::ordered_json;

// Writes at once and never throws, so that a full disk or a reader that has gone cannot end a
// training run; finish() reports what was lost.
class Results {
 public:
  void text(std::string_view text);
  void json(const Json& value);  // one line; NaN becomes null

  // Throws Error(kIoError) if something could not be written. A closed pipe (`| head -1`) is not
  // an error: its reader has what it wanted.
  void finish() const;

 private:
  int error_ = 0;  // errno of the first failure
};

// One line on standard error, or several. Control characters other than the ends of lines are shown
// as \x1b and so on. What cannot be written is lost.
void message(std::string_view text);

std::string counted(int64_t number, const char* singular);  // "1 epoch", "2,000 epochs"
// A moment in UTC, by a format of strftime().
std::string utc_text(std::time_t time, const char* format = "%Y-%m-%d %H:%M:%S UTC");

}  // namespace mnist::cli
