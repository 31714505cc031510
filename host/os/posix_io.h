// Small helpers around POSIX file calls: interrupted calls, short writes, error texts.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace mnist {

// Repeats a call that a signal interrupted.
template <typename Call>
auto uninterrupted(const Call& call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// Owns a file descriptor.
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
  // False: what was written may be lost; errno tells why.
  bool close();

 private:
  int fd_;
};

// Writes everything; false: errno tells why.
bool write_all(int fd, std::span<const std::byte> bytes);
bool write_all(int fd, std::string_view text);

// "No space left on device; free some space there or choose another place": what `error`, a value
// of errno, means and what to do about it where a file could not be read or written.
std::string why_unreadable(int error);
std::string why_unwritable(int error);

}  // namespace mnist
