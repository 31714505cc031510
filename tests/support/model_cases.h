// Model files for the tests: small models with arbitrary weights, comparison of what was read, and
// reading many damaged images quickly.
#pragma once

#include <bit>
#include <functional>
#include <string>
#include <vector>

#include "host/error.h"
#include "host/model_file/format.h"
#include "host/model_file/model_file.h"
#include "host/os/sandbox.h"
#include "tests/support/random.h"

namespace mnist::test {

using Image = std::vector<std::byte>;

inline std::vector<float> random_arena(const Model& model, Random& random) {
  std::vector<float> arena(model.arena_size, 0.0f);
  for (const Parameter& p : model.parameters)
    for (size_t i = 0; i < p.size; ++i) arena[p.offset + i] = random.real(-1, 1);
  return arena;
}

inline RunState random_state(const Model& model, Random& random) {
  RunState state;
  state.m = random_arena(model, random);
  state.v = random_arena(model, random);
  state.iteration = 123'456'789'012;
  state.learning_rate = 0.002f;
  state.seed = random.next() | uint64_t(1) << 63;
  state.epoch = 3;
  state.batch = 17;
  state.sums = {0.1 + random.real(0, 1), 1900, 17 * 100, 17, 0};
  state.batch_size = 100;
  state.shuffle = false;
  state.train_samples = 5000;
  state.dataset = "fashion-mnist";
  state.log_bytes = 987;
  return state;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
         });
}

inline bool same(const RunState& a, const RunState& b) {
  return same_bits(a.m, b.m) && same_bits(a.v, b.v) && a.iteration == b.iteration &&
         std::bit_cast<uint32_t>(a.learning_rate) == std::bit_cast<uint32_t>(b.learning_rate) &&
         a.seed == b.seed && a.epoch == b.epoch && a.batch == b.batch &&
         std::bit_cast<uint64_t>(a.sums.loss_sum) == std::bit_cast<uint64_t>(b.sums.loss_sum) &&
         a.sums.correct == b.sums.correct && a.sums.samples == b.sums.samples &&
         a.sums.batches == b.sums.batches && a.sums.first_nonfinite == b.sums.first_nonfinite &&
         a.sums.saturated == b.sums.saturated && a.batch_size == b.batch_size && a.math == b.math &&
         a.shuffle == b.shuffle && a.train_samples == b.train_samples && a.dataset == b.dataset &&
         a.log_bytes == b.log_bytes;
}

inline bool same_names(const Model& a, const Model& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const Layer& x, const Layer& y) { return x.name == y.name; });
}

inline bool same(const ModelFile& a, const ModelFile& b) {
  return arch_string(a.model) == arch_string(b.model) && a.model.input == b.model.input &&
         same_names(a.model, b.model) && same_bits(a.weights, b.weights) &&
         a.state.has_value() == b.state.has_value() && (!a.state || same(*a.state, *b.state)) &&
         a.checksum == b.checksum && a.checksum_verified == b.checksum_verified &&
         a.writer == b.writer && a.warnings == b.warnings;
}

enum class Verdict : uint8_t { kRefused, kSame, kDifferent, kCrashed };

// Under AddressSanitizer everything takes several times as long.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// How often each verdict was reached.
struct Tally {
  int64_t count[4] = {};
  std::vector<size_t> different;  // cases, the first few
  int64_t operator[](Verdict v) const { return count[size_t(v)]; }
};

// Reads `cases` variants of `image`, each made by `change`, as read_model_file() would, but many in
// one child; a crash costs a new child.
inline Tally read_variants(const Image& image, size_t cases,
                           const std::function<void(Image&, size_t)>& change) {
  constexpr size_t kCasesPerChild = 500;
  const ModelFile original = model_file::validate(model_file::parse_image(image));
  const auto read = [&](size_t number) {
    Image variant = image;
    change(variant, number);
    try {
      const ModelFile file = model_file::validate(model_file::parse_image(variant));
      return same(file, original) ? Verdict::kSame : Verdict::kDifferent;
    } catch (const Error&) {
      return Verdict::kRefused;
    }
  };
  Tally tally;
  for (size_t next = 0; next < cases;) {
    const size_t end = std::min(cases, next + kCasesPerChild);
    Sandbox sandbox(
        [&, begin = next](const Sandbox::Send& send) {
          for (size_t number = begin; number < end; ++number) {
            const Verdict verdict = read(number);
            send(std::as_bytes(std::span(&verdict, 1)));
          }
        },
        2);
    for (bool alive = true; alive && next < end; ++next) {
      Verdict verdict{};
      alive = sandbox.receive(std::as_writable_bytes(std::span(&verdict, 1)));
      if (!alive) verdict = Verdict::kCrashed;
      ++tally.count[size_t(verdict)];
      if (verdict == Verdict::kDifferent && tally.different.size() < 20)
        tally.different.push_back(next);
    }
  }
  return tally;
}

}  // namespace mnist::test
