// training_log.csv: one row per epoch, each by one write().
#include "host/training/training_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <string_view>

#include "host/error.h"
#include "host/os/posix_io.h"

namespace mnist {
namespace {

constexpr std::string_view kHeader = "epoch,loss,accuracy,val_loss,val_accuracy\n";

[[noreturn]] void fail_write(const std::filesystem::path& path, ExitCode code) {
  throw Error(code, fmt::format("cannot write {}: {}", path.string(), why_unwritable(errno)));
}

[[noreturn]] void fail_resume(const std::filesystem::path& path, ExitCode code,
                              const std::string& why) {
  throw Error(code,
              fmt::format("cannot go on with {}: {}; restore it or name a new file with --log",
                          path.string(), why));
}

// Cuts `fd` off after `bytes`, which must end a row of a log of ours.
void cut(int fd, const std::filesystem::path& path, uint64_t bytes) {
  struct stat info;
  if (::fstat(fd, &info) != 0) fail_write(path, ExitCode::kCannotCreate);
  if (!S_ISREG(info.st_mode)) fail_resume(path, ExitCode::kBadInput, "it is not a regular file");
  if (uint64_t(info.st_size) < bytes)
    fail_resume(
        path, ExitCode::kBadInput,
        fmt::format("it has {} bytes, but had {} when the model was saved", info.st_size, bytes));
  char header[kHeader.size()] = {};
  char end = 0;
  const bool ours = bytes >= kHeader.size() &&
                    uninterrupted([&] { return ::pread(fd, header, sizeof header, 0); }) ==
                        ssize_t(sizeof header) &&
                    std::string_view(header, sizeof header) == kHeader &&
                    uninterrupted([&] { return ::pread(fd, &end, 1, off_t(bytes - 1)); }) == 1 &&
                    end == '\n';
  if (!ours) fail_resume(path, ExitCode::kBadInput, "it is not the log that this model belongs to");
  if (uninterrupted([&] { return ::ftruncate(fd, off_t(bytes)); }) != 0 ||
      ::lseek(fd, 0, SEEK_END) < 0)
    fail_write(path, ExitCode::kIoError);
}

}  // namespace

TrainingLog::TrainingLog(const std::filesystem::path& path, uint64_t resume_bytes)
    : path_(path), bytes_(resume_bytes) {
  const bool resume = resume_bytes > 0;
  const int flags = O_CLOEXEC | (resume ? O_RDWR : O_WRONLY | O_CREAT | O_TRUNC);
  fd_ = FileDescriptor(uninterrupted([&] { return ::open(path.c_str(), flags, 0666); }));
  if (!fd_ && resume && errno == ENOENT) fail_resume(path, ExitCode::kMissingInput, "it is gone");
  if (!fd_) fail_write(path, ExitCode::kCannotCreate);
  if (resume) {
    cut(fd_.get(), path, resume_bytes);
  } else {
    if (!write_all(fd_.get(), kHeader)) fail_write(path, ExitCode::kIoError);
    bytes_ = kHeader.size();
  }
}

void TrainingLog::append(const EpochResult& row) {
  std::string text = fmt::format("{}", row.epoch);
  for (const double value : {row.loss, row.accuracy, row.val_loss, row.val_accuracy})
    text += "," + shortest_decimal(value);
  text += "\n";
  if (!write_all(fd_.get(), text)) {
    const int error = errno;
    // Half a row would spoil the file; on a device there is nothing to cut.
    if (::ftruncate(fd_.get(), off_t(bytes_)) == 0) ::lseek(fd_.get(), 0, SEEK_END);
    errno = error;
    fail_write(path_, ExitCode::kIoError);
  }
  bytes_ += text.size();
}

void TrainingLog::sync() const {
  // EINVAL, EROFS: a pipe or a device.
  if (uninterrupted([&] { return ::fdatasync(fd_.get()); }) != 0 && errno != EINVAL &&
      errno != EROFS)
    fail_write(path_, ExitCode::kIoError);
}

std::string shortest_decimal(double value) {
  if (std::isnan(value)) return "nan";  // of either sign
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == text.npos) text += ".0";  // e: exponent, n: inf
  return text;
}

}  // namespace mnist
