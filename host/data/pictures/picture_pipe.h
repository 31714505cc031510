// Found digits through the pipe of a sandbox, which a hostile file may have taken over.
#pragma once

#include "host/data/pictures/picture_digits.h"
#include "host/os/sandbox_pipe.h"

namespace mnist {

// What is found beyond these is no handwriting.
inline constexpr uint32_t kMaxDigits = 10'000;
inline constexpr int kMaxDepth = 2;  // parts of a digit's parts

// The child's end. Throws SandboxFailed where there are too many digits.
void transfer_digits(const SandboxSender& pipe, const PictureDigits& picture);

// The parent's end. Every box lies within the picture, which has at most 64 million pixels, and
// there is either a digit or a printable reason for none. Throws SandboxFailed otherwise.
void transfer_digits(const SandboxReceiver& pipe, PictureDigits& picture);

}  // namespace mnist
