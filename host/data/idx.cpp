#include "host/data/idx.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>

#include "host/error.h"
#include "host/model/model.h"
#include "host/os/file_bytes.h"
#include "host/os/sha256.h"

namespace mnist {
namespace {

// Arrays up to this size are allocated at once; larger ones grow as their bytes arrive.
constexpr size_t kTrustedBytes = size_t(64) << 20;

[[noreturn]] void fail(const std::string& name, const std::string& problem) {
  throw Error(ExitCode::kBadInput, fmt::format("{}: {}", name, problem));
}

bool starts_gzip(std::span<const uint8_t> bytes) {
  return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

// The raw bytes of a file that is gzipped or not, from front to back.
class RawBytes {
 public:
  RawBytes(std::span<const uint8_t> file, const std::string& name)
      : file_(file), name_(name), gzip_(starts_gzip(file)) {
    if (gzip_ && inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK)
      throw Error(ExitCode::kInternal, "zlib cannot start: out of memory");
  }
  ~RawBytes() {
    if (gzip_) inflateEnd(&stream_);
  }
  RawBytes(const RawBytes&) = delete;
  RawBytes& operator=(const RawBytes&) = delete;

  bool gzip() const { return gzip_; }

  // Fills `out` as far as there are bytes; returns how many.
  size_t read(std::span<uint8_t> out) {
    const size_t count = gzip_ ? inflate_some(out) : copy_some(out);
    sha_.update(std::as_bytes(out.first(count)));
    return count;
  }

  std::string sha256() { return sha_.hex(); }

 private:
  size_t copy_some(std::span<uint8_t> out) {
    const auto some = file_.subspan(position_, std::min(out.size(), file_.size() - position_));
    std::copy(some.begin(), some.end(), out.begin());
    position_ += some.size();
    return some.size();
  }

  size_t inflate_some(std::span<uint8_t> out) {
    size_t count = 0;
    while (count < out.size() && !(member_ended_ && position_ == file_.size())) {
      if (member_ended_) {
        if (!starts_gzip(file_.subspan(position_)))
          fail(name_, fmt::format("{} bytes that are not gzip data follow its gzip data",
                                  file_.size() - position_));
        if (inflateReset(&stream_) != Z_OK) fail(name_, "cannot be decompressed");
        member_ended_ = false;
      }
      const size_t in = std::min<size_t>(file_.size() - position_, size_t(1) << 30);
      const size_t room = std::min<size_t>(out.size() - count, size_t(1) << 30);
      stream_.next_in = const_cast<Bytef*>(file_.data() + position_);
      stream_.avail_in = uInt(in);
      stream_.next_out = out.data() + count;
      stream_.avail_out = uInt(room);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      position_ += in - stream_.avail_in;
      const size_t produced = room - stream_.avail_out;
      count += produced;
      if (status == Z_STREAM_END) {
        member_ended_ = true;
      } else if (status == Z_BUF_ERROR ||
                 (status == Z_OK && position_ == file_.size() && stream_.avail_out > 0)) {
        fail(name_, fmt::format("ends in the middle of its gzip data, at byte {}", file_.size()));
      } else if (status != Z_OK) {
        fail(name_, fmt::format("corrupt gzip data near byte {}: {}", position_,
                                stream_.msg != nullptr ? stream_.msg : "unknown error"));
      }
    }
    return count;
  }

  std::span<const uint8_t> file_;
  const std::string& name_;
  bool gzip_;
  z_stream stream_{};
  size_t position_ = 0;  // in file_
  bool member_ended_ = false;
  Sha256 sha_;
};

// The sizes from the header, and their product checked against `max_values`.
std::vector<int64_t> read_header(RawBytes& raw, std::span<const uint8_t> file,
                                 const std::string& name, int rank, int64_t max_values,
                                 int64_t& value_count) {
  std::array<uint8_t, 4> magic{};
  const size_t have = raw.read(magic);
  if (have < magic.size() || magic[0] != 0 || magic[1] != 0)
    fail(name, raw.gzip()
                   ? fmt::format("is not an IDX file: unpacked, it begins with {}",
                                 describe_bytes({magic.data(), have}))
                   : fmt::format("is not an IDX file: it begins with {}", describe_bytes(file)));
  if (magic[2] != kIdxUnsignedByte)
    fail(name,
         fmt::format("holds IDX values of type {:#04x}; 0x08 (unsigned byte) is needed", magic[2]));
  if (magic[3] != rank)
    fail(name, fmt::format("has {} IDX dimensions; {} have {}", magic[3],
                           rank == 1 ? "labels" : "images", rank));

  std::vector<int64_t> sizes;
  value_count = 1;
  for (int i = 0; i < rank; ++i) {
    std::array<uint8_t, 4> word{};
    if (raw.read(word) < word.size()) fail(name, "ends within its IDX header");
    const int64_t size = int64_t(word[0]) << 24 | word[1] << 16 | word[2] << 8 | word[3];
    if (size == 0) fail(name, "is an IDX file with nothing in it");
    sizes.push_back(size);
    if (size > max_values / value_count)
      fail(name,
           fmt::format("its IDX header promises {} values; at most {} are accepted",
                       fmt::format("{}", fmt::join(sizes, " x ")) + (i + 1 < rank ? " x ..." : ""),
                       max_values));
    value_count *= size;
  }
  return sizes;
}

}  // namespace

IdxFile parse_idx(std::span<const uint8_t> file, const std::string& name, int rank,
                  int64_t max_values) {
  RawBytes raw(file, name);
  IdxFile idx{name, {}, {}, {}};
  int64_t value_count = 0;
  idx.sizes = read_header(raw, file, name, rank, max_values, value_count);

  const auto wanted = size_t(value_count);
  size_t have = 0;
  while (have < wanted) {
    idx.values.resize(std::min(wanted, std::max(kTrustedBytes, 2 * have)));
    const size_t count = raw.read(std::span(idx.values).subspan(have));
    have += count;
    if (have < idx.values.size())
      fail(name,
           fmt::format("is too short: its header promises {} values, it has {}", wanted, have));
  }
  uint8_t extra = 0;
  if (raw.read({&extra, 1}) != 0)
    fail(name, fmt::format("is too long: more follows the {} values its header promises", wanted));
  idx.sha256 = raw.sha256();
  return idx;
}

IdxFile read_idx(const std::filesystem::path& path, int rank, int64_t max_values) {
  // Incompressible values make gzip data longer than raw data, by less than this.
  const size_t limit = size_t(max_values) + size_t(max_values) / 16 + 4096;
  return parse_idx(read_file_bytes(path, limit), path.string(), rank, max_values);
}

ImageSet join_idx(IdxFile images, IdxFile labels) {
  if (images.sizes[1] != kMnistSide || images.sizes[2] != kMnistSide)
    fail(images.name,
         fmt::format("has images of {}x{}; scale them to 28x28", images.sizes[1], images.sizes[2]));
  if (images.sizes[0] != labels.sizes[0])
    fail(labels.name, fmt::format("has {} labels for the {} images of {}; take both from one set",
                                  labels.sizes[0], images.sizes[0], images.name));
  const auto bad = std::find_if(labels.values.begin(), labels.values.end(),
                                [](uint8_t label) { return label >= kMnistClasses; });
  if (bad != labels.values.end())
    fail(labels.name, fmt::format("label {} is {}; only 0 to 9 are possible, leave the others out",
                                  bad - labels.values.begin(), *bad));
  ImageSet set;
  set.count = images.sizes[0];
  set.height = set.width = kMnistSide;
  set.images = std::move(images.values);
  set.labels = std::move(labels.values);
  return set;
}

}  // namespace mnist
