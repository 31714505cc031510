// Files replaced as a whole: contents, permissions, links, and every way of failing.
#include "host/os/atomic_file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>

#include "host/error.h"
#include "tests/support/catch.h"
#include "tests/support/child_process.h"
#include "tests/support/data_files.h"
#include "tests/support/error_code.h"

namespace mnist {
namespace {

namespace fs = std::filesystem;
using test::in_child;
using test::TemporaryDirectory;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

size_t entries(const fs::path& directory) {
  return size_t(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

mode_t mode_of(const fs::path& path) {
  struct stat info = {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

constexpr int kCannotCreate = int(ExitCode::kCannotCreate);
constexpr int kIoError = int(ExitCode::kIoError);

}  // namespace

TEST_CASE("a file is created and replaced, and nothing else is left", "[atomic_file]") {
  const TemporaryDirectory dir;
  write(dir / "a", "first");
  CHECK(read(dir / "a") == "first");
  write(dir / "a", "second, longer");
  CHECK(read(dir / "a") == "second, longer");
  write(dir / "a", "");
  CHECK(read(dir / "a").empty());
  CHECK(entries(dir.path()) == 1);
}

TEST_CASE("a new file has the permissions that umask leaves, a replaced one keeps its own",
          "[atomic_file]") {
  const TemporaryDirectory dir;
  const mode_t old = umask(027);
  write(dir / "new", "x");
  CHECK(mode_of(dir / "new") == 0640);
  chmod((dir / "new").c_str(), 0604);
  write(dir / "new", "y");
  umask(old);
  CHECK(mode_of(dir / "new") == 0604);
}

TEST_CASE("symbolic links stay and their targets are replaced", "[atomic_file]") {
  const TemporaryDirectory dir, other;
  write(other / "target", "old");
  fs::create_symlink(other / "target", dir / "link");
  fs::create_symlink("link", dir / "relative");
  write(dir / "relative", "new");
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(read(other / "target") == "new");

  fs::create_symlink(other / "absent", dir / "dangling");
  write(dir / "dangling", "created");
  CHECK(fs::is_symlink(dir / "dangling"));
  CHECK(read(other / "absent") == "created");

  fs::create_symlink("b", dir / "a");
  fs::create_symlink("a", dir / "b");
  CHECK(code_of([&] { write(dir / "a", "x"); }) == kCannotCreate);
  CHECK(code_of([&] { check_writable(dir / "a"); }) == kCannotCreate);
}

TEST_CASE("places where no file can be", "[atomic_file]") {
  const TemporaryDirectory dir;
  write(dir / "file", "x");
  for (const fs::path& path : {dir / "missing/file", dir / "file/below", dir.path(),
                               dir / "directory/", fs::path(""), fs::path("/proc/file")}) {
    INFO(path);
    CHECK(code_of([&] { write(path, "x"); }) == kCannotCreate);
    CHECK(code_of([&] { check_writable(path); }) == kCannotCreate);
  }
  CHECK(entries(dir.path()) == 1);
  try {
    check_writable(dir / "missing/file");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.what() == "cannot write " + (dir / "missing/file").string() +
                              ": No such file or directory; create the directory first");
  }
}

TEST_CASE("devices are written to, not replaced", "[atomic_file]") {
  write("/dev/null", "x");
  check_writable("/dev/null");
  CHECK(fs::is_character_file("/dev/null"));
  CHECK(code_of([] { write("/dev/full", "x"); }) == kIoError);
  CHECK(code_of([] { check_writable("/dev/full"); }) == kCannotCreate);
  CHECK(fs::is_character_file("/dev/full"));
}

TEST_CASE("check_writable leaves nothing behind and changes nothing", "[atomic_file]") {
  const TemporaryDirectory dir;
  write(dir / "old", "kept");
  check_writable(dir / "old");
  check_writable(dir / "new");
  CHECK(read(dir / "old") == "kept");
  CHECK(entries(dir.path()) == 1);
}

TEST_CASE("a directory or file that may not be written", "[atomic_file]") {
  const TemporaryDirectory dir;
  write(dir / "file", "kept");
  fs::permissions(dir.path(), fs::perms(0755));
  const auto as_nobody = [&](const fs::path& path) {
    return in_child([&] {
      if (getuid() == 0 && setuid(65534) != 0) return 1;
      const int checked = code_of([&] { check_writable(path); });
      const int written = code_of([&] { write(path, "x"); });
      return checked == written ? checked : 2;
    });
  };
  SECTION("directory") {
    fs::permissions(dir.path(), fs::perms(0555));
    CHECK(as_nobody(dir / "new") == kCannotCreate);
    fs::permissions(dir.path(), fs::perms(0755));
  }
  SECTION("file, though its directory would allow a replacement") {
    fs::permissions(dir / "file", fs::perms(0444));
    fs::permissions(dir.path(), fs::perms(0777));
    CHECK(as_nobody(dir / "file") == kCannotCreate);
  }
  SECTION("a directory that may be written but not listed") {
    fs::permissions(dir.path(), fs::perms(0333));
    CHECK(as_nobody(dir / "new") == 0);
    fs::permissions(dir.path(), fs::perms(0755));
    CHECK(read(dir / "new") == "x");
  }
  CHECK(read(dir / "file") == "kept");
}

TEST_CASE("wherever writing fails, the old file stays and no temporary", "[atomic_file]") {
  const TemporaryDirectory dir;
  const std::string text(10'000, 'x');
  write(dir / "file", "old");
  for (rlim_t limit = 0; limit <= 10'000; limit += 500) {
    INFO("limit " << limit);
    const int code = in_child([&] {
      const struct rlimit bound = {limit, limit};
      if (setrlimit(RLIMIT_FSIZE, &bound) != 0) return 1;
      return code_of([&] { write(dir / "file", text); });
    });
    const bool fits = limit >= text.size();
    CHECK(code == (fits ? 0 : kIoError));
    CHECK(read(dir / "file") == (fits ? text : "old"));
    CHECK(entries(dir.path()) == 1);
  }
}

TEST_CASE("a full file system", "[atomic_file]") {
  const TemporaryDirectory dir;
  const auto mounted = [&](const auto& body) {
    return in_child([&] {
      if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0) return 250;
      if (unshare(CLONE_NEWNS) != 0 ||
          mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=64k") != 0)
        return 250;
      return body();
    });
  };
  const int code = mounted([&] {
    write(dir / "file", std::string(40'000, 'o'));
    if (code_of([&] { write(dir / "file", std::string(40'000, 'n')); }) != kIoError) return 1;
    if (read(dir / "file") != std::string(40'000, 'o') || entries(dir.path()) != 1) return 2;
    write(dir / "filler", std::string(24'000, 'f'));
    return code_of([&] { check_writable(dir / "new"); }) == kCannotCreate ? 0 : 3;
  });
  if (code == 250)
    WARN("not run: this system lets no test mount a file system of its own");
  else
    CHECK(code == 0);
}

}  // namespace mnist
