// Saving and loading mnist.h5: the digest, and the path of a file's contents from the sandboxed
// parser into the program.
#include "host/model_file/model_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "host/error.h"
#include "host/model_file/format.h"
#include "host/model_file/keras_config.h"
#include "host/os/atomic_file.h"
#include "host/os/file_bytes.h"
#include "host/os/sandbox.h"
#include "host/os/sha256.h"

namespace mnist {
namespace model_file {
namespace {

static_assert(std::endian::native == std::endian::little, "digest and pipe copy bytes as they lie");

[[noreturn]] void fail(const std::string& message) {
  throw Error(ExitCode::kBadInput, message);
}

// ---- digest -------------------------------------------------------------------------------------

// Each item is preceded by its length, so that no two sequences of items give the same bytes.
class Digester {
 public:
  void operator()(const std::string& text) {
    (*this)(uint64_t(text.size()));
    sha_.update(std::as_bytes(std::span(text)));
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void operator()(const T& number) { sha_.update(std::as_bytes(std::span(&number, 1))); }
  void operator()(const std::string& name, const std::vector<int64_t>& shape,
                  std::span<const float> values) {
    (*this)(name);
    (*this)(uint64_t(shape.size()));
    for (const int64_t size : shape) (*this)(size);
    sha_.update(std::as_bytes(values));
  }
  std::string hex() { return sha_.hex(); }

 private:
  Sha256 sha_;
};

}  // namespace

std::string digest(const Texts& texts, const Model& model, std::span<const float> weights,
                   const RunState* state) {
  Digester add;
  for (const std::string* text :
       {&texts.model_config, &texts.training_config, &texts.keras_version, &texts.backend})
    add(*text);
  const auto add_arena = [&](const std::string& prefix, std::span<const float> arena) {
    for (const Parameter& p : model.parameters)
      add(prefix + model.layers[size_t(p.layer)].name + "/" + p.name, p.shape,
          arena.subspan(p.offset, p.size));
  };
  add_arena("weights/", weights);
  if (state) {
    const auto add_scalar = [&](const char* name, const auto& value) {
      add(std::string(name));
      add(value);
    };
    for_each_attribute(*state, add_scalar);
    for_each_scalar_dataset(*state, add_scalar);
    add_arena("m/", state->m);
    add_arena("v/", state->v);
  }
  return add.hex();
}

// ---- believing ----------------------------------------------------------------------------------

namespace {

void check_finite(const Model& model, std::span<const float> arena, const char* what) {
  for (const Parameter& p : model.parameters)
    for (const float value : arena.subspan(p.offset, p.size))
      if (!std::isfinite(value))
        fail(model.layers[size_t(p.layer)].name + ": " + p.name + " has " + what +
             " that are NaN or infinite");
}

void check_state(const Model& model, const Contents& contents) {
  const RunState& s = *contents.state;
  if (s.m.size() != model.arena_size || s.v.size() != model.arena_size)
    fail("the moments do not fit the model");
  check_finite(model, s.m, "moments");
  check_finite(model, s.v, "moments");
  const bool sensible =
      s.iteration >= 0 && s.epoch >= 0 && s.batch >= 0 && s.batch_size >= 1 &&
      s.train_samples >= 0 && s.sums.samples >= 0 && s.sums.batches >= 0 && s.sums.correct >= 0 &&
      s.sums.first_nonfinite >= 0 && std::isfinite(s.learning_rate) && s.learning_rate > 0 &&
      s.batch <= s.train_samples / s.batch_size + 1 && contents.arch == arch_string(model);
  if (!sensible) fail("the state of the training run makes no sense");
}

// Text from the file that is shown to the user: no line breaks, no terminal commands.
std::string printable(std::string text, size_t longest) {
  if (text.size() > longest) text = text.substr(0, longest) + "...";
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

}  // namespace

ModelFile accept(Contents contents) {
  ConfiguredModel configured = parse_model_config(contents.texts.model_config);
  ModelFile file;
  file.model = std::move(configured.model);
  file.warnings = std::move(configured.warnings);
  if (contents.weights.size() != file.model.arena_size) fail("the weights do not fit the model");
  check_finite(file.model, contents.weights, "weights");
  if (contents.state) check_state(file.model, contents);

  const std::string& version = contents.texts.keras_version;
  file.writer = "Keras " + (version.empty() ? "of unknown version" : printable(version, 40));
  if (!contents.format.empty() || !contents.digest.empty()) {
    if (!contents.format.empty() && contents.format != kFormatVersion)
      fail("it is of format " + printable(contents.format, 20) +
           ", which this cuda-mnist does not know; use a newer one");
    const RunState* state = contents.state ? &*contents.state : nullptr;
    if (contents.format.empty() ||
        digest(contents.texts, file.model, contents.weights, state) != contents.digest)
      fail(
          "it was changed or damaged after it had been saved: the checksum does not fit; restore "
          "a copy");
    file.checksum = contents.digest;
    file.checksum_verified = true;
    file.writer = "cuda-mnist";
  }
  file.weights = std::move(contents.weights);
  file.state = std::move(contents.state);
  return file;
}

// ---- from the sandbox ---------------------------------------------------------------------------

namespace {

constexpr size_t kMaxFileBytes = size_t(256) << 20;
constexpr uint64_t kMaxReceivedBytes = uint64_t(1) << 31;  // of one item

enum class Outcome : uint8_t { kContents, kDamaged, kRefused };

// The parser, or the library below it, could make nothing of the file.
struct Damaged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The two ends of the pipe; transfer() below runs over either.
class Sender {
 public:
  explicit Sender(const Sandbox::Send& send) : send_(send) {}

  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(const T& value) const { send_(std::as_bytes(std::span(&value, 1))); }
  template <class Sequence>
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

  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void operator()(T& value) const { read(std::as_writable_bytes(std::span(&value, 1))); }
  void operator()(bool& value) const {  // a byte other than 0 and 1 is no bool
    uint8_t byte = 0;
    (*this)(byte);
    value = byte != 0;
  }
  template <class Sequence>
  requires requires(const Sequence& s) { s.data(); }
  void operator()(Sequence& sequence) const {
    uint64_t size = 0;
    (*this)(size);
    if (size > kMaxReceivedBytes / sizeof(sequence[0])) crashed();
    sequence.resize(size);
    read(std::as_writable_bytes(std::span(sequence)));
  }

  [[noreturn]] static void crashed() { throw Damaged("the HDF5 library failed on it"); }

 private:
  void read(std::span<std::byte> bytes) const {
    if (!sandbox_.receive(bytes)) crashed();
  }

  Sandbox& sandbox_;
};

template <class Pipe, class AnyContents>
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

// ---- the file -----------------------------------------------------------------------------------

bool starts_with(std::span<const uint8_t> bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

// What can be said of a file without parsing it.
void check_signature(std::span<const uint8_t> image) {
  if (image.empty()) fail("it is empty; restore a copy, or train again");
  if (starts_with(image, "PK\x03\x04"))
    fail("it is a .keras file; save it as HDF5 in Keras: model.save(\"mnist.h5\")");
  if (!starts_with(image, "\x89HDF\r\n\x1a\n"))
    fail("it is no HDF5 file, but " + describe_bytes(image) +
         "; name one that cuda-mnist or Keras saved");
  // The superblock (versions 0 to 3, eight-byte addresses) records the length of the file.
  const size_t position = image.size() > 8 && image[8] >= 2 ? 28 : 40;
  uint64_t length = 0;
  if (image.size() < position + sizeof length) fail("it is incomplete; restore a copy");
  std::memcpy(&length, image.data() + position, sizeof length);
  if (length > image.size())
    fail("it is incomplete: " + std::to_string(image.size()) + " of " + std::to_string(length) +
         " bytes; restore a copy, or train again");
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
    throw Error(ExitCode::kInternal, "cannot write " + path.string() +
                                         ": weights or moments are NaN, infinite or not those of "
                                         "the model; the earlier file is kept");
  write_file_atomically(path, model_file::build_image(model, weights, state));
}

ModelFile read_model_file(const std::filesystem::path& path) {
  using namespace model_file;
  const std::vector<uint8_t> bytes = read_file_bytes(path, kMaxFileBytes);
  try {
    check_signature(bytes);
    return accept(parse_in_sandbox(std::as_bytes(std::span(bytes))));
  } catch (const Damaged& damage) {
    throw Error(ExitCode::kBadInput, path.string() + ": is damaged (" +
                                         printable(damage.what(), 400) +
                                         "); restore a copy, or train again");
  } catch (const Error& error) {
    if (error.code() != ExitCode::kBadInput) throw;
    throw Error(ExitCode::kBadInput, path.string() + ": " + printable(error.what(), 400));
  }
}

}  // namespace mnist
