#include "host/data/npz.h"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "host/error.h"
#include "host/os/file_bytes.h"
#include "host/os/sha256.h"
#include "host/text.h"

namespace mnist {
namespace {

constexpr size_t kMaxArchiveBytes = size_t{128} << 20;  // MNIST has 55 MB, uncompressed
constexpr size_t kMaxHeaderBytes = 65535;               // of an .npy file; NumPy writes 118
constexpr std::string_view kNpyMagic = "\x93NUMPY";

[[noreturn]] void fail(const std::string& name, const std::string& problem) {
  throw Error(ExitCode::kBadInput, fmt::format("{}: {}", name, problem));
}

struct CloseZip {
  void operator()(zip_t* archive) const { zip_discard(archive); }
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using Archive = std::unique_ptr<zip_t, CloseZip>;

Archive open_archive(std::span<const uint8_t> bytes, const std::string& name) {
  if (bytes.empty()) fail(name, "is empty");  // libzip takes that for an archive of nothing
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  Archive archive(source != nullptr ? zip_open_from_source(source, ZIP_RDONLY, &error) : nullptr);
  if (archive == nullptr) {
    zip_source_free(source);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    fail(name, fmt::format("is not a sound .npz (zip) archive: {}; it begins with {}", reason,
                           describe_bytes(bytes)));
  }
  zip_error_fini(&error);
  return archive;
}

// One file of the archive, from front to back.
class Entry {
 public:
  Entry(zip_t* archive, const std::string& file, const std::string& name)
      : name_(name), file_(zip_fopen(archive, file.c_str(), 0)) {
    if (file_ == nullptr)
      fail(name_, fmt::format("cannot be read from the archive: {}", zip_strerror(archive)));
  }

  // Fills `out` as far as there are bytes; returns how many. The last read checks the CRC.
  size_t read(std::span<uint8_t> out) {
    size_t count = 0;
    while (count < out.size()) {
      const zip_int64_t some = zip_fread(file_.get(), out.data() + count, out.size() - count);
      if (some < 0)
        fail(name_,
             fmt::format("cannot be read from the archive: {}", zip_file_strerror(file_.get())));
      if (some == 0) break;
      count += size_t(some);
    }
    return count;
  }

  std::string read_text(size_t size) {
    std::vector<uint8_t> bytes(size);
    if (read(bytes) < size) fail(name_, "ends within its .npy header");
    return {bytes.begin(), bytes.end()};
  }

 private:
  const std::string& name_;
  std::unique_ptr<zip_file_t, CloseZip> file_;
};

// Reads the one Python expression that an .npy header is, a dict of literals:
//   {'descr': '|u1', 'fortran_order': False, 'shape': (60000, 28, 28), }
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  // The shape of the array, of unsigned bytes in C order.
  std::vector<int64_t> read() {
    bool descr = false, order = false;
    std::optional<std::vector<int64_t>> shape;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        if (const std::string_view type = string(); type != "|u1")
          fail(name_, fmt::format("holds values of type '{}'; '|u1' (unsigned byte) is needed",
                                  printable(type, 24)));
      } else if (key == "fortran_order" && !order) {
        order = true;
        if (word() != "False") fail(name_, "is not in C order (row-major)");
      } else if (key == "shape" && !shape) {
        shape = tuple();
      } else {
        malformed();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!descr || !order || !shape || text_.find_first_not_of(" \n") != text_.npos) malformed();
    return *shape;
  }

 private:
  [[noreturn]] void malformed() const { fail(name_, "has an .npy header that is not understood"); }

  bool accept(char c) {
    text_.remove_prefix(std::min(text_.find_first_not_of(' '), text_.size()));
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!accept(c)) malformed();
  }
  std::string_view take(size_t count) {
    const std::string_view taken = text_.substr(0, count);
    text_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view string() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') {
      // A list here would be a structured type.
      if (accept('[')) fail(name_, "holds structured values; unsigned bytes are needed");
      expect('\'');
    }
    const std::string_view value = take(text_.find(quote));
    expect(quote);
    return value;
  }
  std::string_view word() {
    accept(' ');
    return take(text_.find_first_of(",} "));
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      int64_t size = 0;
      text_.remove_prefix(std::min(text_.find_first_not_of(' '), text_.size()));
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) malformed();
      text_.remove_prefix(size_t(end - text_.data()));
      accept('L');  // as Python 2 writes a long
      sizes.push_back(size);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  std::string_view text_;
  const std::string& name_;
};

std::vector<int64_t> read_shape(Entry& entry, const std::string& name) {
  const std::string magic = entry.read_text(kNpyMagic.size());
  if (magic != kNpyMagic) fail(name, "is not an .npy array");
  const std::string version = entry.read_text(2);
  const int major = uint8_t(version[0]);
  if (major < 1 || major > 3)
    fail(name, fmt::format("has .npy version {}; 1 to 3 are read", major));
  size_t size = 0;  // little-endian
  const std::string length = entry.read_text(major == 1 ? 2 : 4);
  for (size_t i = length.size(); i-- > 0;) size = size << 8 | uint8_t(length[i]);
  if (size > kMaxHeaderBytes)
    fail(name,
         fmt::format("has an .npy header of {} bytes; at most {} are read", size, kMaxHeaderBytes));
  return HeaderReader(entry.read_text(size), name).read();
}

std::vector<uint8_t> idx_header(const std::vector<int64_t>& sizes) {
  std::vector<uint8_t> header{0, 0, kIdxUnsignedByte, uint8_t(sizes.size())};
  for (const int64_t size : sizes)
    for (int shift = 24; shift >= 0; shift -= 8) header.push_back(uint8_t(size >> shift));
  return header;
}

}  // namespace

IdxFile parse_npz(std::span<const uint8_t> bytes, const std::string& file, const std::string& array,
                  int rank, int64_t max_values) {
  const Archive archive = open_archive(bytes, file);
  IdxFile idx{fmt::format("{} ({})", file, array), {}, {}, {}};
  const std::string& name = idx.name;
  Entry entry(archive.get(), array + ".npy", name);

  idx.sizes = read_shape(entry, name);
  if (idx.sizes.size() != size_t(rank))
    fail(name, fmt::format("has {} dimensions; {} have {}", idx.sizes.size(),
                           rank == 1 ? "labels" : "images", rank));
  int64_t count = 1;
  for (const int64_t size : idx.sizes) {
    if (size == 0) fail(name, "is an array with nothing in it");
    if (size > max_values / count)
      fail(name, fmt::format("its header promises {} values; at most {} are accepted",
                             fmt::join(idx.sizes, " x "), max_values));
    count *= size;
  }

  idx.values.resize(size_t(count));
  if (const size_t have = entry.read(idx.values); have < idx.values.size())
    fail(name, fmt::format("is too short: its header promises {} values, it has {}", count, have));
  uint8_t extra = 0;
  if (entry.read({&extra, 1}) != 0)
    fail(name, fmt::format("is too long: more follows the {} values its header promises", count));

  Sha256 sha;
  sha.update(std::as_bytes(std::span<const uint8_t>(idx_header(idx.sizes))));
  sha.update(std::as_bytes(std::span<const uint8_t>(idx.values)));
  idx.sha256 = sha.hex();
  return idx;
}

IdxFile read_npz(const std::filesystem::path& path, const std::string& array, int rank,
                 int64_t max_values) {
  return parse_npz(read_file_bytes(path, kMaxArchiveBytes), path.string(), array, rank, max_values);
}

}  // namespace mnist
