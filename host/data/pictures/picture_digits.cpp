// Foreign pictures are decoded and searched in a sandbox; what comes out of it is checked, since a
// hostile file may have taken it over.
#include "host/data/pictures/picture_digits.h"

#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <functional>

#include "host/data/pictures/annotate.h"
#include "host/data/pictures/decode.h"
#include "host/data/pictures/find_digits.h"
#include "host/data/pictures/picture_bytes.h"
#include "host/data/pictures/picture_pipe.h"
#include "host/error.h"
#include "host/os/file_bytes.h"
#include "host/os/sandbox_pipe.h"
#include "host/text.h"

namespace mnist {
namespace {

constexpr int kCpuSeconds = 5;
constexpr uint64_t kMaxReceivedBytes = 256'000'000;  // an annotated picture

enum class Outcome : uint8_t { kDone, kRefused };

PictureDigits find_in(std::span<const uint8_t> file, const FindOptions& options) {
  const DecodedPicture picture = decode_picture(file);
  PictureDigits found = find_digits(picture.grey.get(), options);
  scale_boxes(found, picture.width, picture.height);
  return found;
}

// What `work` gives, computed in a sandbox and brought here by `carry(pipe, result)`.
template <typename Result, typename Work, typename Carry>
Result in_sandbox(std::span<const uint8_t> file, const Work& work, const Carry& carry) try {
  if (file.size() > kMaxPictureBytes)
    refuse(fmt::format("has {}; pictures of at most {} are read", describe_size(file.size()),
                       describe_size(kMaxPictureBytes)));
  const auto in_child = [&](const Sandbox::Send& send) {
    const SandboxSender pipe(send);
    try {
      const Result result = work();
      pipe(Outcome::kDone);
      carry(pipe, result);
    } catch (const Error& error) {
      if (error.code() != ExitCode::kBadInput) throw;
      pipe(Outcome::kRefused);
      pipe(std::string(error.what()));
    }
  };
  Sandbox sandbox(in_child, kCpuSeconds);
  const SandboxReceiver pipe(sandbox, kMaxReceivedBytes);
  Outcome outcome{};
  pipe(outcome);
  if (outcome == Outcome::kDone) {
    Result result;
    carry(pipe, result);
    return result;
  }
  std::string problem;
  pipe(problem);
  refuse(printable(problem, 400));
} catch (const SandboxFailed&) {
  refuse(
      fmt::format("is damaged, or takes more than {} seconds or 1 GiB of memory to read; save it "
                  "anew, as PNG or JPEG and smaller",
                  kCpuSeconds));
}

}  // namespace

PictureDigits find_picture_digits(std::span<const uint8_t> file, const FindOptions& options) {
  return in_sandbox<PictureDigits>(
      file, [&] { return find_in(file, options); },
      [](const auto& pipe, auto& picture) { transfer_digits(pipe, picture); });
}

std::vector<uint8_t> annotate_picture(std::span<const uint8_t> file,
                                      std::span<const PictureLabel> labels) {
  return in_sandbox<std::vector<uint8_t>>(
      file, [&] { return draw_labels(decode_picture(file), labels); },
      [](const auto& pipe, auto& png) { pipe(png); });
}

std::vector<uint8_t> png_of_digit(const std::array<uint8_t, 28 * 28>& image) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = png.height = 28;
  png.format = PNG_FORMAT_GRAY;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<uint8_t> file(size);
  if (!png_image_write_to_memory(&png, file.data(), &size, 0, image.data(), 0, nullptr))
    throw Error(ExitCode::kInternal, fmt::format("libpng cannot write: {}", png.message));
  file.resize(size);
  return file;
}

}  // namespace mnist
