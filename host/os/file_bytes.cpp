#include "host/os/file_bytes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <string_view>

#include "host/error.h"
#include "host/os/posix_io.h"

namespace mnist {
namespace {

struct Signature {
  std::string_view bytes;
  const char* meaning;
  size_t position = 0;
};

using namespace std::string_view_literals;

constexpr Signature kSignatures[] = {
    {"\x1f\x8b"sv, "gzip data"},
    {"\x89PNG"sv, "a PNG picture"},
    {"\xff\xd8\xff"sv, "a JPEG picture"},
    {"GIF8"sv, "a GIF picture"},
    {"BM"sv, "a BMP picture"},
    {"WEBP"sv, "a WebP picture", 8},
    {"RIFF"sv, "a RIFF file (sound or video)"},
    {"ftyphe"sv, "a HEIC picture", 4},
    {"ftypavi"sv, "an AVIF picture", 4},
    {"ftypmif1"sv, "a HEIC or AVIF picture", 4},
    {"ftypmsf1"sv, "a HEIC or AVIF picture", 4},
    {"ftyp"sv, "a video", 4},
    {"II*\0"sv, "a TIFF picture"},
    {"MM\0*"sv, "a TIFF picture"},
    {"P1"sv, "a PBM picture"},
    {"P2"sv, "a PGM picture"},
    {"P3"sv, "a PPM picture"},
    {"P4"sv, "a PBM picture"},
    {"P5"sv, "a PGM picture"},
    {"P6"sv, "a PPM picture"},
    {"%PDF"sv, "a PDF document"},
    {"PK\x03\x04"sv, "a zip archive"},
    {"\x28\xb5\x2f\xfd"sv, "Zstandard data"},
    {"\xfd"
     "7zXZ"sv,
     "xz data"},
    {"\x89HDF"sv, "an HDF5 file"},
    {"\0\0\x08\x01"sv, "an IDX file of labels"},
    {"\0\0\x08\x03"sv, "an IDX file of images"},
};

bool looks_like_html(std::string_view text) {
  const size_t start = text.find('<');
  if (start == text.npos ||
      text.substr(0, start).find_first_not_of(" \t\r\n\xef\xbb\xbf") != text.npos)
    return false;
  std::string tag(text.substr(start, 9));
  std::transform(tag.begin(), tag.end(), tag.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return tag == "<!doctype" || tag.starts_with("<html") || tag.starts_with("<head") ||
         tag.starts_with("<?xml");
}

}  // namespace

std::vector<uint8_t> read_file_bytes(const std::filesystem::path& path, size_t limit) {
  // Without O_NONBLOCK, opening a FIFO would wait for a writer.
  const FileDescriptor file(
      uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
  struct stat status {};
  if (!file || fstat(file.get(), &status) != 0)
    throw Error(ExitCode::kMissingInput,
                fmt::format("{}: cannot be read: {}", path.string(), why_unreadable(errno)));
  if (!S_ISREG(status.st_mode))
    throw Error(ExitCode::kBadInput,
                fmt::format("{}: is {}, not a file", path.string(),
                            S_ISDIR(status.st_mode) ? "a directory" : "a pipe or a device"));
  const auto size = uint64_t(status.st_size);
  if (size > limit)
    throw Error(ExitCode::kBadInput,
                fmt::format("{}: has {}; at most {} are accepted", path.string(),
                            describe_size(size), describe_size(limit)));
  std::vector<uint8_t> bytes(size);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        uninterrupted([&] { return read(file.get(), bytes.data() + done, bytes.size() - done); });
    if (count <= 0)
      throw Error(ExitCode::kBadInput,
                  fmt::format("{}: cannot be read at byte {}: {}", path.string(), done,
                              count < 0 ? why_unreadable(errno) : "it was cut short meanwhile"));
    done += size_t(count);
  }
  return bytes;
}

std::vector<uint8_t> read_stream_bytes(const std::filesystem::path& path, size_t limit) {
  const bool standard_input = path == "-";
  const std::string name = standard_input ? "standard input" : path.string();
  const auto fail = [&] {
    throw Error(ExitCode::kMissingInput,
                fmt::format("{}: cannot be read: {}", name, why_unreadable(errno)));
  };
  FileDescriptor opened;
  if (!standard_input) {
    opened =
        FileDescriptor(uninterrupted([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
    if (!opened) fail();
  }
  const int file = standard_input ? STDIN_FILENO : opened.get();
  std::vector<uint8_t> bytes;
  for (size_t size = 0;;) {
    bytes.resize(std::min(limit + 1, std::max<size_t>(65536, 2 * size)));
    const ssize_t count =
        uninterrupted([&] { return read(file, bytes.data() + size, bytes.size() - size); });
    if (count < 0) fail();
    size += size_t(count);
    if (size > limit)
      throw Error(ExitCode::kBadInput,
                  fmt::format("{}: has more than {}, the most that is accepted", name,
                              describe_size(limit)));
    if (count == 0) {
      bytes.resize(size);
      return bytes;
    }
  }
}

std::string describe_bytes(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return "nothing (it is empty)";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 256));
  if (looks_like_html(text)) return "an HTML page";
  for (const Signature& signature : kSignatures)
    if (text.substr(std::min(signature.position, text.size())).starts_with(signature.bytes))
      return signature.meaning;

  const std::string_view first = text.substr(0, 24);
  if (std::all_of(first.begin(), first.end(), [](char c) { return c >= ' ' && c <= '~'; }))
    return fmt::format("the text \"{}\"", first);
  std::string hex = "bytes";
  for (const unsigned char byte : text.substr(0, 8)) hex += fmt::format(" {:02x}", byte);
  return hex;
}

std::string describe_size(uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} bytes", bytes);
  const double value = double(bytes);
  if (bytes < 1000000) return fmt::format("{:.1f} kB", value / 1e3);
  if (bytes < 1000000000) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.1f} GB", value / 1e9);
}

}  // namespace mnist
