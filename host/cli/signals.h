// SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a second one ends the process.
#pragma once

#include <signal.h>

#include <array>

#include "host/error.h"

namespace mnist::cli {

// While one exists, the first of the signals is only remembered; another SIGINT or SIGTERM exits at
// once. (Not another SIGHUP: a closing terminal sends two.) Under nohup SIGHUP stays ignored.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The first signal received by any of these objects; 0: none.
  static int received();
  // The exit code after an orderly end.
  static ExitCode exit_code();
  // Throws Error(exit_code()) if a signal was received; `state` says what becomes of the work.
  static void throw_if_received(const char* state);

 private:
  std::array<struct sigaction, 3> previous_;
};

// Lets writes fail with an error code instead of a signal (closed pipes, file size limits), and
// occupies descriptors 0-2, so that no file we open becomes a standard stream that was closed.
void prepare_standard_streams();

}  // namespace mnist::cli
