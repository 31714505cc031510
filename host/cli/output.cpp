#include "host/cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "host/error.h"

namespace mnist::cli {
namespace {

// 0 or errno.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

}  // namespace

void Results::text(std::string_view text) {
  if (error_ == 0) error_ = write_all(STDOUT_FILENO, text);
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
                          std::strerror(error_)));
}

void message(std::string_view text) {
  std::string line(text);
  line += '\n';
  write_all(STDERR_FILENO, line);
}

std::string grouped(int64_t number) {
  std::string digits = fmt::format("{}", number);
  const int first = number < 0 ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > first; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string counted(int64_t number, const char* singular) {
  return fmt::format("{} {}{}", grouped(number), singular, number == 1 ? "" : "s");
}

}  // namespace mnist::cli
