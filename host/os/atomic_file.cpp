// Files that are either old or new: write beside, fsync, rename over, fsync the directory.
//
// Where the file system can (O_TMPFILE), the new file has no name until it is complete, so that not
// even a killed process leaves a partial file.
#include "host/os/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <vector>

#include "host/error.h"
#include "host/os/posix_io.h"

namespace mnist {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(ExitCode code, const fs::path& path, const std::string& why) {
  throw Error(code, fmt::format("cannot write {}: {}", path.string(), why));
}

// The file that `path` leads to: a symbolic link stays, its target is replaced.
fs::path final_target(const fs::path& path) {
  fs::path target = path;
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, error)); ++links) {
    if (links == 40)
      fail(ExitCode::kCannotCreate, path, "it is a loop of symbolic links; remove it");
    const fs::path next = fs::read_symlink(target, error);
    if (error) fail(ExitCode::kCannotCreate, path, why_unwritable(error.value()));
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  return target;
}

fs::path directory_of(const fs::path& target) {
  return target.has_parent_path() ? target.parent_path() : fs::path(".");
}

// What is at the target now.
struct Existing {
  bool there = false;
  struct stat info = {};

  bool special() const { return there && !S_ISREG(info.st_mode); }  // device, pipe
};

Existing look_at(const fs::path& path, const fs::path& target) {
  Existing existing;
  if (target.filename().empty())
    fail(ExitCode::kCannotCreate, path, "it names a directory; add a file name");
  existing.there = ::stat(target.c_str(), &existing.info) == 0;
  if (!existing.there && errno != ENOENT)
    fail(ExitCode::kCannotCreate, path, why_unwritable(errno));
  if (existing.there && S_ISDIR(existing.info.st_mode))
    fail(ExitCode::kCannotCreate, path, "it is a directory; choose another name");
  if (existing.there && ::access(target.c_str(), W_OK) != 0)
    fail(ExitCode::kCannotCreate, path, why_unwritable(errno));
  return existing;
}

// A new file in the target's directory, gone with the object unless renamed to the target.
class Replacement {
 public:
  Replacement(const fs::path& path, const fs::path& target, const Existing& existing)
      : path_(path), target_(target) {
    const fs::path directory = directory_of(target);
    if (::access("/proc/self/fd", X_OK) == 0)  // needed to give it a name later
      fd_ = FileDescriptor(uninterrupted(
          [&] { return ::open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666); }));
    if (!fd_)
      create_name([&](const fs::path& name) {
        fd_ = FileDescriptor(uninterrupted(
            [&] { return ::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666); }));
        return bool(fd_);
      });
    if (existing.there && ::fchmod(fd_.get(), existing.info.st_mode & 07777) != 0)
      fail_discarding(ExitCode::kCannotCreate);
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;
  ~Replacement() { discard(); }

  void write(std::span<const std::byte> bytes) {
    if (!write_all(fd_.get(), bytes)) fail_discarding(ExitCode::kIoError);
    if (uninterrupted([&] { return ::fsync(fd_.get()); }) != 0) fail_discarding(ExitCode::kIoError);
  }

  void rename() {
    // A directory that may be written but not read cannot be opened: then the sync is left out.
    const FileDescriptor directory(uninterrupted(
        [&] { return ::open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (name_.empty()) {
      const std::string unnamed = fmt::format("/proc/self/fd/{}", fd_.get());
      create_name([&](const fs::path& name) {
        return ::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
      });
    }
    if (!fd_.close()) fail_discarding(ExitCode::kIoError);
    if (::rename(name_.c_str(), target_.c_str()) != 0) fail_discarding(ExitCode::kCannotCreate);
    name_.clear();
    // Some network file systems cannot fsync a directory (EINVAL).
    if (directory && uninterrupted([&] { return ::fsync(directory.get()); }) != 0 &&
        errno != EINVAL)
      fail(ExitCode::kIoError, path_, why_unwritable(errno));
  }

 private:
  // Tries names until `create` makes one that is not taken.
  template <typename Create>
  void create_name(const Create& create) {
    static std::atomic<unsigned> counter = 0;
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const fs::path name =
          directory_of(target_) /
          fmt::format(".{}.{}-{}.tmp", target_.filename().string(), ::getpid(), counter++);
      if (create(name)) {
        name_ = name;
        return;
      }
      if (errno != EEXIST) break;
    }
    fail_discarding(ExitCode::kCannotCreate);
  }

  [[noreturn]] void fail_discarding(ExitCode code) {
    const int error = errno;
    discard();
    fail(code, path_, why_unwritable(error));
  }

  void discard() {
    fd_.close();
    if (!name_.empty()) ::unlink(name_.c_str());
    name_.clear();
  }

  const fs::path& path_;    // as the user named it
  const fs::path& target_;  // with symbolic links followed
  FileDescriptor fd_;
  fs::path name_;  // empty: it has none (yet, or any more)
};

// A device or pipe cannot be replaced, only written to.
void write_special(const fs::path& path, std::span<const std::byte> bytes) {
  FileDescriptor fd(uninterrupted([&] { return ::open(path.c_str(), O_WRONLY | O_CLOEXEC); }));
  if (!fd) fail(ExitCode::kCannotCreate, path, why_unwritable(errno));
  if (!write_all(fd.get(), bytes) || !fd.close())
    fail(ExitCode::kIoError, path, why_unwritable(errno));
}

}  // namespace

void write_file_atomically(const fs::path& path, std::span<const std::byte> bytes) {
  const fs::path target = final_target(path);
  const Existing existing = look_at(path, target);
  if (existing.special()) return write_special(path, bytes);
  Replacement replacement(path, target, existing);
  replacement.write(bytes);
  replacement.rename();
}

void check_writable(const fs::path& path, size_t bytes) try {
  const fs::path target = final_target(path);
  const Existing existing = look_at(path, target);
  if (existing.special() && S_ISFIFO(existing.info.st_mode)) return;  // opening it could block
  const std::vector<std::byte> probe(bytes);
  // A byte shows whether a device takes any (/dev/full does not).
  if (existing.special()) return write_special(path, std::span(probe).first(1));
  Replacement(path, target, existing).write(probe);
} catch (const Error& error) {
  throw Error(ExitCode::kCannotCreate, error.what());
}

}  // namespace mnist
