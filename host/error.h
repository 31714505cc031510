// The one exception type of the host, and the exit codes that scripts may rely on (README).
#pragma once

#include <stdexcept>
#include <string>

namespace mnist {

enum class ExitCode {
  kOk = 0,
  kUsage = 2,          // unknown option, impossible value
  kBadInput = 65,      // a file that is corrupt or not what it should be
  kMissingInput = 66,  // a file that is not there
  kUnavailable = 69,   // no usable GPU, no network
  kInternal = 70,      // CUDA fault, broken invariant, NaN loss
  kCannotCreate = 73,  // output that cannot be created
  kIoError = 74,       // output that cannot be written to the end
  kInterrupted = 130,  // SIGINT, after saving
  kTerminated = 143,   // SIGTERM, after saving
};

// what() is one line for the user: what is wrong, where, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace mnist
