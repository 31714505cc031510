// Small helpers around POSIX file calls: interrupted calls, short writes, error texts.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace mnist {

// Repeats a call that a signal interrupted.
template <class Call>
auto uninterrupted(const Call& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// Owns a file descriptor. close() tells of errors that a written file may still have.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() { close(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  bool close();  // false: errno tells why

 private:
  int fd_;
};

// Writes everything; false: errno tells why.
bool write_all(int fd, std::span<const std::byte> bytes);

// "No space left on device; free some space there": what errno value `error` means and what to do.
std::string cause_and_cure(int error);

}  // namespace mnist
