// File calls: writing everything, what an error means, digests of files.
#include "host/os/posix_io.h"

#include <fcntl.h>
#include <unistd.h>

#include "host/error.h"
#include "host/os/sha256.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"

namespace mnist {

using namespace test;

TEST_CASE("an error of reading and one of writing have cures of their own", "[posix_io]") {
  CHECK(why_unreadable(ENOENT) == "No such file or directory; check its name");
  CHECK(why_unwritable(ENOENT) == "No such file or directory; create the directory first");
  CHECK(why_unreadable(EACCES) == "Permission denied; allow it to be read (chmod +r)");
  CHECK(why_unwritable(EROFS) == "Read-only file system; choose a place that you may write to");
  CHECK(why_unwritable(ENOSPC) ==
        "No space left on device; free some space there or choose another place");
  CHECK(why_unreadable(EMFILE) == "Too many open files; raise the limit (ulimit -n)");
  CHECK(why_unreadable(EIO) == "Input/output error; check the disk");
  CHECK(why_unwritable(EIO) == "Input/output error; check the disk or choose another place");
}

TEST_CASE("everything is written, or the error is told", "[posix_io]") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const FileDescriptor read_end(ends[0]), write_end(ends[1]);
  const std::string text(30'000, 'x');  // fits into the pipe
  CHECK(write_all(write_end.get(), text));
  std::string got(text.size(), ' ');
  CHECK(::read(read_end.get(), got.data(), got.size()) == ssize_t(text.size()));
  CHECK(got == text);

  const FileDescriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  CHECK_FALSE(write_all(full.get(), text));
  CHECK(errno == ENOSPC);
}

TEST_CASE("a file's digest is that of its bytes", "[posix_io]") {
  const TemporaryDirectory dir;
  write_bytes(dir / "abc", text_bytes("abc"));
  // FIPS 180-2, appendix B.1
  CHECK(file_sha256(dir / "abc") ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const Bytes large(200'000, 7);  // several reads
  write_bytes(dir / "large", large);
  CHECK(file_sha256(dir / "large") == sha256_hex(large));
  const Failure failure = failure_of([&] { file_sha256(dir / "absent"); });
  CHECK(failure.code == ExitCode::kIoError);
  CHECK(contains(failure.text, (dir / "absent").string()));
}

}  // namespace mnist
