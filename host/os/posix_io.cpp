// Small helpers around POSIX file calls.
#include "host/os/posix_io.h"

#include <unistd.h>

#include <system_error>

namespace mnist {

bool FileDescriptor::close() {
  // Not repeated after EINTR: on Linux the descriptor is gone even then.
  const int fd = std::exchange(fd_, -1);
  return fd < 0 || ::close(fd) == 0 || errno == EINTR;
}

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = uninterrupted([&] { return ::write(fd, bytes.data(), bytes.size()); });
    if (written < 0) return false;
    bytes = bytes.subspan(size_t(written));
  }
  return true;
}

std::string cause_and_cure(int error) {
  const std::string cause = std::generic_category().message(error);
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return cause + "; free some space there or choose another place";
    case EFBIG:
      return cause + "; raise the limit (ulimit -f) or choose another place";
    case ENOENT:
    case ENOTDIR:
      return cause + "; create the directory first";
    case EACCES:
    case EPERM:
    case EROFS:
      return cause + "; choose a place that you may write to";
    default:
      return cause + "; check the disk or choose another place";
  }
}

}  // namespace mnist
