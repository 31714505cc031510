// Small helpers around POSIX file calls.
#include "host/os/posix_io.h"

#include <fmt/format.h>
#include <unistd.h>

#include <system_error>

namespace mnist {
namespace {

struct Cure {
  int error;
  const char* reading;
  const char* writing;
};

constexpr Cure kCures[] = {
    {ENOENT, "check its name", "create the directory first"},
    {ENOTDIR, "check its name", "create the directory first"},
    {EACCES, "allow it to be read (chmod +r)", "choose a place that you may write to"},
    {EPERM, "allow it to be read (chmod +r)", "choose a place that you may write to"},
    {EROFS, "check the disk", "choose a place that you may write to"},
    {ENOSPC, "check the disk", "free some space there or choose another place"},
    {EDQUOT, "check the disk", "free some space there or choose another place"},
    {EFBIG, "check the disk", "raise the limit (ulimit -f) or choose another place"},
    {EMFILE, "raise the limit (ulimit -n)", "raise the limit (ulimit -n)"},
};
constexpr Cure kOtherwise{0, "check the disk", "check the disk or choose another place"};

Cure cure_of(int error) {
  for (const Cure& cure : kCures)
    if (cure.error == error) return cure;
  return kOtherwise;
}

}  // namespace

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

bool write_all(int fd, std::string_view text) {
  return write_all(fd, std::as_bytes(std::span(text)));
}

std::string why_unreadable(int error) {
  return fmt::format("{}; {}", std::generic_category().message(error), cure_of(error).reading);
}

std::string why_unwritable(int error) {
  return fmt::format("{}; {}", std::generic_category().message(error), cure_of(error).writing);
}

}  // namespace mnist
