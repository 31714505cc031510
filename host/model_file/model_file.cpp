#include "host/model_file/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "host/error.h"
#include "host/model_file/format.h"
#include "host/os/atomic_file.h"
#include "host/os/file_bytes.h"
#include "host/text.h"

namespace mnist {
namespace model_file {
namespace {

constexpr size_t kMaxFileBytes = size_t(256) << 20;

static_assert(std::endian::native == std::endian::little, "as the numbers of the file are");

bool starts_with(std::span<const uint8_t> bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

// What can be said of a file without parsing it.
void check_signature(std::span<const uint8_t> image) {
  if (image.empty()) fail("it is empty; restore a copy, or train again");
  if (starts_with(image, "PK\x03\x04"))
    fail("it is a .keras file; save it as HDF5 in Keras: model.save(\"mnist.h5\")");
  if (!starts_with(image, "\x89HDF\r\n\x1a\n"))
    fail(fmt::format("it is not an HDF5 file, but {}; name one that cuda-mnist or Keras saved",
                     describe_bytes(image)));
  // The superblock (versions 0 to 3, eight-byte addresses) records the length of the file.
  const size_t position = image.size() > 8 && image[8] >= 2 ? 28 : 40;
  uint64_t length = 0;
  if (image.size() < position + sizeof length) fail("it is incomplete; restore a copy");
  std::memcpy(&length, image.data() + position, sizeof length);
  if (length > image.size())
    fail(fmt::format("it is incomplete: {} of {} bytes; restore a copy, or train again",
                     image.size(), length));
}

}  // namespace
}  // namespace model_file

void write_model_file(const std::filesystem::path& path, const Model& model,
                      const std::vector<float>& weights, const RunState* state) {
  const auto fits = [&](const std::vector<float>& arena) {
    return arena.size() == model.arena_size &&
           std::all_of(arena.begin(), arena.end(), [](float x) { return std::isfinite(x); });
  };
  if (!fits(weights) || (state && !(fits(state->m) && fits(state->v))))
    throw Error(ExitCode::kInternal,
                fmt::format("cannot write {}: weights or moments are NaN, infinite or not those of "
                            "the model; the earlier file is kept",
                            path.string()));
  write_file_atomically(path, model_file::build_image(model, weights, state));
}

ModelFile read_model_file(const std::filesystem::path& path) {
  using namespace model_file;
  const std::vector<uint8_t> bytes = read_file_bytes(path, kMaxFileBytes);
  try {
    check_signature(bytes);
    return validate(parse_in_sandbox(std::as_bytes(std::span(bytes))));
  } catch (const Damaged& damage) {
    throw Error(ExitCode::kBadInput,
                fmt::format("{}: is damaged ({}); restore a copy, or train again", path.string(),
                            printable(damage.what(), 400)));
  } catch (const Error& error) {
    if (error.code() != ExitCode::kBadInput) throw;
    throw Error(ExitCode::kBadInput,
                fmt::format("{}: {}", path.string(), printable(error.what(), 400)));
  }
}

}  // namespace mnist
