#include "host/cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "host/error.h"
#include "host/os/posix_io.h"

namespace mnist::cli {

void Results::text(std::string_view text) {
  if (error_ == 0 && !write_all(STDOUT_FILENO, text)) error_ = errno;
}

void Results::json(const Json& value) {
  // File names need not be UTF-8.
  text(value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Results::finish() const {
  if (error_ == 0 || error_ == EPIPE) return;
  throw Error(ExitCode::kIoError,
              fmt::format("cannot write the results to standard output: {}. Free some space or "
                          "send the output elsewhere.",
                          std::generic_category().message(error_)));
}

void message(std::string_view text) {
  std::string lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines += visible(text.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  write_all(STDERR_FILENO, lines);
}

std::string counted(int64_t number, const char* singular) {
  return fmt::format("{} {}{}", grouped(number), singular, number == 1 ? "" : "s");
}

std::string utc_text(std::time_t time, const char* format) {
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

}  // namespace mnist::cli
