// Runs a function on untrusted bytes in a child process with tight resource limits. It contains
// crashes, endless loops and floods of memory. It is not a security boundary: system calls are not
// filtered, and the child can read what the caller has in memory.
#pragma once

#include <sys/types.h>
#include <cstddef>
#include <functional>
#include <span>

#include "host/os/posix_io.h"

namespace mnist {

// The child starts as a copy of the caller and its memory, without its open files and sockets. It
// cannot open files or, unless it is root's, start processes; it has `cpu_seconds` of processor
// time and 1 GiB of memory beyond what it started with; its standard streams lead to /dev/null. It
// must not rely on other threads or on CUDA. It ends without running the caller's destructors; a
// crash shows only as an early end of its output.
class Sandbox {
 public:
  // In the child: passes bytes on to the caller.
  using Send = std::function<void(std::span<const std::byte>)>;

  // `work` may throw: its output ends there. Throws Error(kInternal) if no process can be started.
  explicit Sandbox(const std::function<void(const Send&)>& work, int cpu_seconds = 5);
  ~Sandbox();  // kills a child that is still at work
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  // The next bytes that the child sent; false if it ended, or hung, before it sent that many.
  bool receive(std::span<std::byte> bytes);

 private:
  pid_t child_ = -1;
  FileDescriptor pipe_;
  int milliseconds_left_;
};

}  // namespace mnist
