// Runs a function on untrusted bytes in a child process that can do no harm and no damage.
#pragma once

#include <sys/types.h>
#include <cstddef>
#include <functional>
#include <span>

#include "host/os/posix_io.h"

namespace mnist {

// The child starts as a copy of the caller with its memory, but may open no file, start no process,
// use only so many seconds of processor time and 1 GiB of memory more than it was born with; its
// standard streams are closed. It must not rely on other threads or on CUDA. It ends without
// running destructors of the caller; a crash in it is invisible but for the end of its output.
class Sandbox {
 public:
  // In the child: passes bytes on to the caller.
  using Send = std::function<void(std::span<const std::byte>)>;

  // `work` may throw: its output ends there. Throws Error(kInternal) if no process can be started.
  explicit Sandbox(const std::function<void(const Send&)>& work, int cpu_seconds = 5);
  ~Sandbox();  // kills a child that is still at work
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  // The next bytes that the child sent; false if it ended, or hung, before there were as many.
  bool receive(std::span<std::byte> bytes);

 private:
  pid_t child_ = -1;
  FileDescriptor pipe_;
  int milliseconds_left_;
};

}  // namespace mnist
