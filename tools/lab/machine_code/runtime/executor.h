// The other end: the Python program that started this one executes kernels on an arena which both
// have mapped, and answers each message with one line.
#pragma once

#include <cstddef>
#include <string>

namespace machine_code {

// Bytes [0,device_bytes) of the arena are device memory, pinned host memory follows.
struct Arena {
  char* address = nullptr;   // as kernels see it; the host has no access to device memory there
  char* contents = nullptr;  // the same bytes, for copies
  unsigned char* written = nullptr;  // 1 for each byte that has been written
  size_t device_bytes = 0, pinned_bytes = 0;
};

// Empty (address null) where this program was not started by the executor.
const Arena& arena();

struct Answer {
  bool good;
  std::string text;  // what was asked for, or the fault
};

// Sends one line of JSON.
Answer ask(const std::string& message);

}  // namespace machine_code
