#include "host/cli/signals.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace mnist::cli {
namespace {

constexpr std::array<int, 3> kSignals{SIGINT, SIGTERM, SIGHUP};

volatile sig_atomic_t first_signal = 0;

void handle(int signal) {
  if (first_signal == 0) {
    first_signal = signal;
  } else if (signal != SIGHUP) {
    _exit(128 + signal);
  }
}

}  // namespace

StopSignals::StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &previous_[i]);
    if (kSignals[i] == SIGHUP && previous_[i].sa_handler == SIG_IGN) continue;
    struct sigaction action = {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_[i], nullptr);
}

int StopSignals::received() {
  return first_signal;
}

ExitCode StopSignals::exit_code() {
  return first_signal == SIGINT ? ExitCode::kInterrupted : ExitCode::kTerminated;
}

void StopSignals::throw_if_received(const char* state) {
  if (first_signal == 0) return;
  throw Error(exit_code(),
              std::string(first_signal == SIGINT ? "interrupted" : "terminated") + ": " + state);
}

void prepare_standard_streams() {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  // open() takes the lowest free descriptor: with 0 and 1 open, 2. Writing to a closed stream still
  // fails, since it is opened for reading (and standard input for writing).
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
      std::abort();
  }
}

}  // namespace mnist::cli
