#include "host/data/pictures/picture_pipe.h"

#include <algorithm>

#include "host/data/pictures/picture_bytes.h"
#include "host/text.h"

namespace mnist {
namespace {

// The same for both ends of the pipe. `left` is how many digits there may still be.
template <typename Pipe, typename Digits>
void transfer_list(const Pipe& pipe, Digits& digits, uint32_t& left, int depth) {
  uint32_t count = uint32_t(digits.size());
  pipe(count);
  if (count > left || (count > 0 && depth > kMaxDepth)) throw SandboxFailed();
  left -= count;
  if constexpr (!std::is_const_v<Digits>) digits.resize(count);
  for (auto& digit : digits) {
    pipe(digit.box.x);
    pipe(digit.box.y);
    pipe(digit.box.width);
    pipe(digit.box.height);
    pipe(digit.line);
    pipe(digit.image);
    transfer_list(pipe, digit.parts, left, depth + 1);
  }
}

template <typename Pipe, typename Picture>
void transfer_picture(const Pipe& pipe, Picture& picture) {
  pipe(picture.width);
  pipe(picture.height);
  uint32_t left = kMaxDigits;
  transfer_list(pipe, picture.digits, left, 0);
  pipe(picture.why_none);
}

bool within(int64_t begin, int64_t length, int64_t size) {
  return begin >= 0 && length >= 1 && begin + length <= size;
}

bool plausible(const std::vector<FoundDigit>& digits, const PictureDigits& picture) {
  return std::all_of(digits.begin(), digits.end(), [&](const FoundDigit& digit) {
    return within(digit.box.x, digit.box.width, picture.width) &&
           within(digit.box.y, digit.box.height, picture.height) &&
           within(digit.line, 1, kMaxDigits) && plausible(digit.parts, picture);
  });
}

}  // namespace

void transfer_digits(const SandboxSender& pipe, const PictureDigits& picture) {
  transfer_picture(pipe, picture);
}

void transfer_digits(const SandboxReceiver& pipe, PictureDigits& picture) {
  transfer_picture(pipe, picture);
  if (picture.width < 1 || picture.height < 1 ||
      uint64_t(picture.width) * uint64_t(picture.height) > kMaxPixels ||
      !plausible(picture.digits, picture) || picture.digits.empty() == picture.why_none.empty())
    throw SandboxFailed();
  picture.why_none = printable(picture.why_none, 200);
}

}  // namespace mnist
