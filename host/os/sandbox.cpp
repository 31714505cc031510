// Runs a function on untrusted bytes in a forked child with tight resource limits.
#include "host/os/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <system_error>

#include "host/error.h"

namespace mnist {
namespace {

constexpr int kWallMilliseconds = 60'000;  // for a child that sleeps; the CPU limit ends a busy one
constexpr rlim_t kExtraMemory = rlim_t(1) << 30;

[[noreturn]] void fail(const char* what) {
  throw Error(ExitCode::kInternal,
              fmt::format("cannot {}: {}; close other programs or raise the limits (ulimit -a)",
                          what, std::generic_category().message(errno)));
}

// A limit that the caller is under already, and that is lower, stays.
void limit(int resource, rlim_t value) {
  struct rlimit bound;
  if (::getrlimit(resource, &bound) != 0) ::_exit(1);
  bound.rlim_max = std::min(bound.rlim_max, value);
  bound.rlim_cur = bound.rlim_max;
  if (::setrlimit(resource, &bound) != 0) ::_exit(1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void limit_memory_and_files() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  if (!file || std::fscanf(file, "%lu", &pages) != 1) ::_exit(1);
  std::fclose(file);
  struct rlimit now;
  if (::getrlimit(RLIMIT_AS, &now) != 0) ::_exit(1);
  const rlim_t bound = rlim_t(pages) * rlim_t(::sysconf(_SC_PAGESIZE)) + kExtraMemory;
  if (bound < now.rlim_max) limit(RLIMIT_AS, bound);
  limit(RLIMIT_NOFILE, 0);
}
#else
// Sanitizers reserve terabytes of address space, and probe memory through pipes.
void limit_memory_and_files() {}
#endif

// Crash handlers of the caller (a test framework's, a sanitizer's) must not run in the child.
void default_signals() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGXCPU, SIGXFSZ,
                           SIGPIPE, SIGTERM, SIGINT})
    ::signal(signal, SIG_DFL);
}

// Of the caller's files and sockets only `pipe` stays; its number is returned.
int keep_only(int pipe) {
  constexpr int kKept = STDERR_FILENO + 1;
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0) ::_exit(1);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, stream);
  if (::dup2(pipe, kKept) < 0) ::_exit(1);
  ::closefrom(kKept + 1);
  return kKept;
}

void confine(pid_t parent, int cpu_seconds) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != parent) ::_exit(1);
  default_signals();
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, rlim_t(cpu_seconds));
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_NPROC, 0);
  limit_memory_and_files();
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(1);
}

[[noreturn]] void run_child(const std::function<void(const Sandbox::Send&)>& work, int pipe) {
  try {
    work([pipe](std::span<const std::byte> bytes) {
      if (!write_all(pipe, bytes)) ::_exit(1);
    });
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace

Sandbox::Sandbox(const std::function<void(const Send&)>& work, int cpu_seconds)
    : milliseconds_left_(kWallMilliseconds) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("create a pipe");
  pipe_ = FileDescriptor(ends[0]);
  FileDescriptor write_end(ends[1]);
  const pid_t parent = ::getpid();
  child_ = ::fork();
  if (child_ == 0) {
    const int pipe = keep_only(ends[1]);
    confine(parent, cpu_seconds);
    run_child(work, pipe);
  }
  if (child_ < 0) fail("start a process");
}

Sandbox::~Sandbox() {
  ::kill(child_, SIGKILL);
  uninterrupted([&] { return ::waitpid(child_, nullptr, 0); });
}

bool Sandbox::receive(std::span<std::byte> bytes) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(milliseconds_left_);
  while (!bytes.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    milliseconds_left_ = std::max(0, int(left.count()));
    struct pollfd ready = {pipe_.get(), POLLIN, 0};
    const int events = ::poll(&ready, 1, milliseconds_left_);
    if (events < 0 && errno == EINTR) continue;
    if (events <= 0) return false;
    const ssize_t got =
        uninterrupted([&] { return ::read(pipe_.get(), bytes.data(), bytes.size()); });
    if (got <= 0) return false;
    bytes = bytes.subspan(size_t(got));
  }
  return true;
}

}  // namespace mnist
