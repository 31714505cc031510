// Parses a file in a sandbox and brings its contents back through the pipe.
#include <string>

#include "host/model_file/format.h"
#include "host/os/sandbox_pipe.h"

namespace mnist::model_file {
namespace {

constexpr uint64_t kMaxReceivedBytes = uint64_t(1) << 31;  // of one item

enum class Outcome : uint8_t { kContents, kDamaged, kRefused };

template <typename Pipe, typename AnyContents>
void transfer(const Pipe& pipe, AnyContents& contents) {
  pipe(contents.texts.model_config);
  pipe(contents.texts.training_config);
  pipe(contents.texts.keras_version);
  pipe(contents.texts.backend);
  pipe(contents.format);
  pipe(contents.digest);
  pipe(contents.weights);
  bool has_state = contents.state.has_value();
  pipe(has_state);
  if (!has_state) return;
  if constexpr (!std::is_const_v<AnyContents>) contents.state.emplace();
  const auto pipe_scalar = [&](const char*, auto& value) { pipe(value); };
  for_each_attribute(*contents.state, pipe_scalar);
  for_each_fp16_attribute(*contents.state, pipe_scalar);
  for_each_scalar_dataset(*contents.state, pipe_scalar);
  pipe(contents.state->m);
  pipe(contents.state->v);
  pipe(contents.arch);
}

void parse_and_send(std::span<const std::byte> image, const Sandbox::Send& send) {
  const SandboxSender pipe(send);
  try {
    const Contents contents = parse_image(image);
    pipe(Outcome::kContents);
    transfer(pipe, contents);
  } catch (const Error& error) {
    pipe(error.code() == ExitCode::kBadInput ? Outcome::kRefused : Outcome::kDamaged);
    pipe(std::string(error.what()));
  }
}

}  // namespace

Contents parse_in_sandbox(std::span<const std::byte> image) try {
  Sandbox sandbox([&](const Sandbox::Send& send) { parse_and_send(image, send); });
  const SandboxReceiver pipe(sandbox, kMaxReceivedBytes);
  Outcome outcome{};
  pipe(outcome);
  Contents contents;
  if (outcome == Outcome::kContents) {
    transfer(pipe, contents);
    return contents;
  }
  std::string message;
  pipe(message);
  if (outcome == Outcome::kRefused) fail(message);
  throw Damaged(message);
} catch (const SandboxFailed&) {
  throw Damaged("the HDF5 library failed on it");
}

}  // namespace mnist::model_file
