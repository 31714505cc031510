// Runs a function in a child process: for limits, identities and deaths that a test cannot take on
// itself.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

namespace mnist::test {

// Starts a child that runs `body` and exits with what it returns (255 if it throws).
template <class Body>
pid_t start_child(const Body& body) {
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child > 0) return child;
  signal(SIGXFSZ, SIG_IGN);
  int status = 255;
  try {
    status = body();
  } catch (...) {
  }
  _exit(status);
}

// The exit status, or minus the signal that ended it.
inline int wait_for(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("cannot wait");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

template <class Body>
int in_child(const Body& body) {
  return wait_for(start_child(body));
}

}  // namespace mnist::test
