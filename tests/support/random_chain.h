// Random Sequential chains of every kind of layer, for tests that hold for all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "host/model/model.h"
#include "tests/support/random.h"

namespace mnist::test {

// A network and two updates of it: one with a full batch, one with a short one. Weights, images and
// all else that is random follow from the seed.
struct Chain {
  Extent input;
  std::vector<Layer> layers;  // as for make_model()
  int batch = 1;              // the batch size
  int samples = 2;            // from batch + 1 to 2 batch
  uint64_t seed = 0;
  bool resident = false, eager = false;  // of EngineConfig

  Model model() const { return make_model(input, layers); }
};

// "--arch conv:4x3,... --input 11x10x2 --batch-size 5 --limit 8 --seed 77": input, batch and seed
// as cuda-mnist train takes them, if the input is 28x28x1.
std::string to_string(const Chain& chain);
// The chain of such a text. Throws Error(kUsage).
Chain parse_chain(const std::string& text);

Chain draw_chain(Random& random);

// What is wrong with a chain; empty: nothing. What it throws is wrong too.
using ChainCheck = std::function<std::string(const Chain&)>;

// A small chain that still fails: leaves out layers and reduces numbers as long as it does, within
// some seconds.
Chain shrink(Chain chain, const ChainCheck& check);

// Draws chains and requires that nothing is wrong with them; reports the first that fails, shrunk.
// As many as `count` says, or the environment:
//   MNIST_CHAINS=500                     that many; their texts go to stderr as they begin
//   MNIST_CHAIN="--arch ... --seed 77"   that one, as it stands
void require_random_chains(int count, const ChainCheck& check);

// ---- data of a chain

std::vector<float> random_weights(const Model& model, Random& random);  // gaps are zero

// One parameter out of an arena.
template <typename T>
std::vector<T> part(const std::vector<T>& arena, const Parameter& p) {
  const auto begin = arena.begin() + std::ptrdiff_t(p.offset);
  return std::vector<T>(begin, begin + std::ptrdiff_t(p.size));
}

}  // namespace mnist::test
