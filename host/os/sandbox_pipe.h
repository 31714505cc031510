// Values through a Sandbox's pipe. The bytes have no tags and every length is bounded: the parent
// takes nothing on trust from a child that a hostile file may have taken over (a CBOR reader
// would). A function template that calls pipe(value) for one value after the other serves both
// ends.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "host/os/sandbox.h"

namespace mnist {

// The child ended before it had sent all: it crashed or met a limit. Or what it sent is impossible.
struct SandboxFailed : std::runtime_error {
  SandboxFailed() : std::runtime_error("a process in the sandbox failed") {}
};

template <typename T>
concept PipeScalar = std::is_arithmetic_v<T> || std::is_enum_v<T>;
// Of scalars.
template <typename T>
concept PipeSequence = requires(const T& t) {
  t.data();
  t.size();
};

class SandboxSender {
 public:
  explicit SandboxSender(const Sandbox::Send& send) : send_(send) {}

  void operator()(const PipeScalar auto& value) const {
    send_(std::as_bytes(std::span(&value, 1)));
  }
  void operator()(const PipeSequence auto& sequence) const {
    (*this)(uint64_t(sequence.size()));
    send_(std::as_bytes(std::span(sequence)));
  }

 private:
  const Sandbox::Send& send_;
};

// Reads from a Sandbox or, in a test, from elsewhere. Throws SandboxFailed.
class SandboxReceiver {
 public:
  // As Sandbox::receive().
  using Receive = std::function<bool(std::span<std::byte>)>;

  // No sequence is longer than `max_bytes`.
  SandboxReceiver(Receive receive, uint64_t max_bytes)
      : receive_(std::move(receive)), max_bytes_(max_bytes) {}
  SandboxReceiver(Sandbox& sandbox, uint64_t max_bytes)
      : SandboxReceiver([&](std::span<std::byte> bytes) { return sandbox.receive(bytes); },
                        max_bytes) {}

  void operator()(PipeScalar auto& value) const {
    read(std::as_writable_bytes(std::span(&value, 1)));
  }
  void operator()(bool& value) const {  // a byte other than 0 and 1 is not a bool
    uint8_t byte = 0;
    (*this)(byte);
    value = byte != 0;
  }
  void operator()(PipeSequence auto& sequence) const {
    uint64_t size = 0;
    (*this)(size);
    if (size > max_bytes_ / sizeof(sequence[0])) throw SandboxFailed();
    if constexpr (requires { sequence.resize(size); })
      sequence.resize(size);
    else if (size != sequence.size())
      throw SandboxFailed();
    read(std::as_writable_bytes(std::span(sequence)));
  }

 private:
  void read(std::span<std::byte> bytes) const {
    if (!receive_(bytes)) throw SandboxFailed();
  }

  Receive receive_;
  uint64_t max_bytes_;
};

}  // namespace mnist
