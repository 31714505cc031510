// Parses a file in a sandbox and brings its contents back through the pipe. The bytes have no tags
// and every length is bounded: the parent takes nothing on trust from a child that a hostile file
// may have taken over (a CBOR reader would).
#include <bit>
#include <string>

#include "host/model_file/format.h"
#include "host/os/sandbox.h"

namespace mnist::model_file {
namespace {

constexpr uint64_t kMaxReceivedBytes = uint64_t(1) << 31;  // of one item

enum class Outcome : uint8_t { kContents, kDamaged, kRefused };

// The two ends of the pipe; transfer() below runs over either.
class Sender {
 public:
  explicit Sender(const Sandbox::Send& send) : send_(send) {}

  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(const T& value) const { send_(std::as_bytes(std::span(&value, 1))); }
  template <typename Sequence>
  requires requires(const Sequence& s) { s.data(); }
  void operator()(const Sequence& sequence) const {
    (*this)(uint64_t(sequence.size()));
    send_(std::as_bytes(std::span(sequence)));
  }

 private:
  const Sandbox::Send& send_;
};

class Receiver {
 public:
  explicit Receiver(Sandbox& sandbox) : sandbox_(sandbox) {}

  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(T& value) const { read(std::as_writable_bytes(std::span(&value, 1))); }
  void operator()(bool& value) const {  // a byte other than 0 and 1 is not a bool
    uint8_t byte = 0;
    (*this)(byte);
    value = byte != 0;
  }
  template <typename Sequence>
  requires requires(const Sequence& s) { s.data(); }
  void operator()(Sequence& sequence) const {
    uint64_t size = 0;
    (*this)(size);
    if (size > kMaxReceivedBytes / sizeof(sequence[0])) crashed();
    sequence.resize(size);
    read(std::as_writable_bytes(std::span(sequence)));
  }

 private:
  [[noreturn]] static void crashed() { throw Damaged("the HDF5 library failed on it"); }

  void read(std::span<std::byte> bytes) const {
    if (!sandbox_.receive(bytes)) crashed();
  }

  Sandbox& sandbox_;
};

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
  for_each_scalar_dataset(*contents.state, pipe_scalar);
  pipe(contents.state->m);
  pipe(contents.state->v);
  pipe(contents.arch);
}

void parse_and_send(std::span<const std::byte> image, const Sandbox::Send& send) {
  const Sender pipe(send);
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

Contents parse_in_sandbox(std::span<const std::byte> image) {
  Sandbox sandbox([&](const Sandbox::Send& send) { parse_and_send(image, send); });
  const Receiver pipe(sandbox);
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
}

}  // namespace mnist::model_file
