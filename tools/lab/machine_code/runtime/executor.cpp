#include "tools/lab/machine_code/runtime/executor.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace machine_code {

namespace {

// The same in every run: results must not depend on addresses, and faults shall name them.
constexpr size_t kAddress = 0x7'0000'0000;

int executor_socket = -1;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::_Exit(70);
}

void* map(void* address, size_t bytes, int protection, int flags, int file, size_t offset) {
  void* memory = mmap(address, bytes, protection, flags, file, off_t(offset));
  if (memory == MAP_FAILED) give_up("machine code: mmap");
  return memory;
}

// MNIST_MACHINE_CODE names the socket, the arena's file and the sizes of its parts.
Arena connect() {
  const char* variable = std::getenv("MNIST_MACHINE_CODE");
  Arena arena;
  int file = -1;
  if (variable == nullptr || std::sscanf(variable, "%d %d %zu %zu", &executor_socket, &file,
                                         &arena.device_bytes, &arena.pinned_bytes) != 4)
    return {};
  const size_t bytes = arena.device_bytes + arena.pinned_bytes;
  arena.address = static_cast<char*>(map(reinterpret_cast<void*>(kAddress), arena.device_bytes,
                                         PROT_NONE, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0));
  map(arena.address + arena.device_bytes, arena.pinned_bytes, PROT_READ | PROT_WRITE,
      MAP_SHARED | MAP_FIXED_NOREPLACE, file, arena.device_bytes);
  char* all =
      static_cast<char*>(map(nullptr, 2 * bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  arena.contents = all;
  arena.written = reinterpret_cast<unsigned char*>(all + bytes);
  return arena;
}

}  // namespace

const Arena& arena() {
  static const Arena connected = connect();
  return connected;
}

Answer ask(const std::string& message) {
  const std::string line = message + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count =
        send(executor_socket, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) give_up("machine code: the executor has gone");
    sent += size_t(count);
  }
  std::string text;
  while (text.empty() || text.back() != '\n') {
    char buffer[4096];
    const ssize_t count = recv(executor_socket, buffer, sizeof buffer, 0);
    if (count <= 0) give_up("machine code: the executor has gone");
    text.append(buffer, size_t(count));
  }
  text.pop_back();
  const bool good = text.starts_with("ok");
  return {good, good ? text.substr(text.size() > 2 ? 3 : 2) : text};
}

}  // namespace machine_code
