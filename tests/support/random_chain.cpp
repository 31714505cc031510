#include "tests/support/random_chain.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "host/error.h"
#include "tests/support/catch.h"

namespace mnist::test {
namespace {

// Under AddressSanitizer a chain takes about ten times as long.
#ifdef __SANITIZE_ADDRESS__
constexpr int kSlowness = 10;
#else
constexpr int kSlowness = 1;
#endif

// Multiplications and values of a step.
double work(const Model& model, int batch) {
  double sum = double(model.arena_size);
  for (const Layer& l : model.layers) {
    sum += double(batch) * double(l.output.size());
    if (l.kind == LayerKind::kConv2D)
      sum += double(batch) * double(l.output.size()) * l.window_h * l.window_w * l.input.c;
    if (l.kind == LayerKind::kMaxPool2D)
      sum += double(batch) * double(l.output.size()) * l.window_h * l.window_w;
    if (l.kind == LayerKind::kDense) sum += double(batch) * double(l.input.size()) * l.units;
  }
  return sum;
}

bool valid(const Chain& chain) {
  try {
    chain.model();
    return chain.batch >= 1 && chain.samples > chain.batch && chain.samples <= 2 * chain.batch;
  } catch (const Error&) {
    return false;
  }
}

template <typename T>
T one_of(Random& random, const std::vector<T>& values) {
  return values[size_t(random.integer(0, int(values.size()) - 1))];
}
bool chance(Random& random, int percent) {
  return random.integer(1, 100) <= percent;
}

// Small ones, and those beside the edges of a warp and of a tile.
int draw_units(Random& random) {
  return chance(random, 70) ? random.integer(1, 10)
                            : one_of<int>(random, {15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 128});
}

Layer dropout(Random& random) {
  Layer layer;
  layer.kind = LayerKind::kDropout;
  layer.rate = one_of<double>(random, {0, 0.1, 0.25, 0.25, 0.3, 0.5, 0.5, 0.8});
  return layer;
}

Layer dense(int units, Random& random) {
  Layer layer;
  layer.kind = LayerKind::kDense;
  layer.units = units;
  layer.activation = chance(random, 80) ? Activation::kRelu : Activation::kLinear;
  layer.use_bias = chance(random, 85);
  return layer;
}

Layer hidden(Random& random) {
  return dense(draw_units(random), random);
}

Layer flatten(Random&) {
  return {};
}

void draw_window(Layer& layer, Random& random, int most) {
  layer.window_h = random.integer(1, most);
  layer.window_w = chance(random, 50) ? layer.window_h : random.integer(1, most);
  layer.padding = chance(random, 35) ? Padding::kSame : Padding::kValid;
}

Layer conv(Random& random) {
  Layer layer;
  layer.kind = LayerKind::kConv2D;
  layer.units = draw_units(random);
  layer.activation = chance(random, 80) ? Activation::kRelu : Activation::kLinear;
  layer.use_bias = chance(random, 85);
  if (chance(random, 55)) {  // the usual one
    layer.window_h = layer.window_w = 3;
    layer.padding = chance(random, 30) ? Padding::kSame : Padding::kValid;
    return layer;
  }
  draw_window(layer, random, 5);
  layer.stride_h = chance(random, 60) ? 1 : random.integer(1, 3);
  layer.stride_w = chance(random, 70) ? layer.stride_h : random.integer(1, 3);
  return layer;
}

Layer pool(Random& random) {
  Layer layer;
  layer.kind = LayerKind::kMaxPool2D;
  layer.window_h = layer.window_w = layer.stride_h = layer.stride_w = 2;
  if (chance(random, 55)) return layer;  // the usual one
  if (chance(random, 40)) {              // nearly that one
    layer.stride_h = random.integer(1, 3);
    layer.stride_w = random.integer(1, 3);
    return layer;
  }
  draw_window(layer, random, 4);
  layer.stride_h = chance(random, 60) ? layer.window_h : random.integer(1, 4);
  layer.stride_w = chance(random, 60) ? layer.window_w : random.integer(1, 4);
  return layer;
}

std::vector<Layer> closed(std::vector<Layer> layers, const Layer& last) {
  const bool flat = std::any_of(layers.begin(), layers.end(), [](const Layer& layer) {
    return layer.kind == LayerKind::kFlatten;
  });
  if (!flat) layers.emplace_back();
  layers.push_back(last);
  return layers;
}

std::string size_text(const Extent& e) {
  return std::to_string(e.h) + "x" + std::to_string(e.w) + "x" + std::to_string(e.c);
}

std::string outcome(const ChainCheck& check, const Chain& chain) {
  try {
    return check(chain);
  } catch (const std::exception& error) {
    return std::string("throws: ") + error.what();
  }
}

// Chains that are a little smaller, the most promising first.
std::vector<Chain> reductions(const Chain& chain) {
  std::vector<Chain> all;
  const auto variant = [&](const auto& change) {
    Chain smaller = chain;
    change(smaller);
    all.push_back(std::move(smaller));
  };
  for (size_t i = 0; i + 1 < chain.layers.size(); ++i)
    variant([&](Chain& c) { c.layers.erase(c.layers.begin() + std::ptrdiff_t(i)); });
  variant([](Chain& c) { c.resident = c.eager = false; });
  variant([](Chain& c) { c.batch = 1, c.samples = 2; });
  variant([](Chain& c) { c.batch = (c.batch + 1) / 2, c.samples = c.batch + 1; });
  variant([](Chain& c) { c.samples = c.batch + 1; });
  for (int Extent::*side : {&Extent::h, &Extent::w, &Extent::c})
    for (const bool half : {true, false})
      variant([&](Chain& c) { c.input.*side = half ? c.input.*side / 2 : c.input.*side - 1; });
  for (size_t i = 0; i < chain.layers.size(); ++i) {
    for (int Layer::*number :
         {&Layer::units, &Layer::window_h, &Layer::window_w, &Layer::stride_h, &Layer::stride_w}) {
      const int value = chain.layers[i].*number;
      for (const int smaller : {1, value / 2, value - 1})
        if (smaller >= 1 && smaller < value)
          variant([&](Chain& c) { c.layers[i].*number = smaller; });
    }
    variant([&](Chain& c) { c.layers[i].padding = Padding::kValid; });
    variant([&](Chain& c) { c.layers[i].use_bias = true; });
    if (chain.layers[i].activation == Activation::kLinear &&
        (chain.layers[i].kind == LayerKind::kConv2D || chain.layers[i].kind == LayerKind::kDense))
      variant([&](Chain& c) { c.layers[i].activation = Activation::kRelu; });
  }
  return all;
}

}  // namespace

std::string to_string(const Chain& chain) {
  return "--arch " + arch_string(chain.model()) + " --input " + size_text(chain.input) +
         " --batch-size " + std::to_string(chain.batch) + " --limit " +
         std::to_string(chain.samples) + " --seed " + std::to_string(chain.seed) +
         (chain.resident ? " --data resident" : "") + (chain.eager ? " --eager" : "");
}

Chain parse_chain(const std::string& text) {
  std::map<std::string, std::string> options;
  std::istringstream words(text);
  std::string word, option;
  while (words >> word) {
    if (word.rfind("--", 0) == 0)
      options[option = word] = "yes";
    else
      options[option] = word;
  }
  Chain chain;
  char times[2] = {};
  std::istringstream size(options["--input"]);
  size >> chain.input.h >> times[0] >> chain.input.w >> times[1] >> chain.input.c;
  chain.layers = parse_arch(options["--arch"], chain.input).layers;
  chain.batch = std::atoi(options["--batch-size"].c_str());
  chain.samples = std::atoi(options["--limit"].c_str());
  chain.seed = std::strtoull(options["--seed"].c_str(), nullptr, 10);
  chain.resident = options.count("--data") > 0;
  chain.eager = options.count("--eager") > 0;
  if (!valid(chain)) throw Error(ExitCode::kUsage, "not a chain: " + text);
  return chain;
}

Chain draw_chain(Random& random) {
  Chain chain;
  chain.seed = random.next() >> 32;
  chain.input = chance(random, 25) ? kMnistExtent
                                   : Extent{random.integer(3, 24), random.integer(3, 24),
                                            one_of<int>(random, {1, 1, 1, 2, 3, 4, 5, 8})};
  chain.batch = chance(random, 75) ? random.integer(1, 9)
                                   : one_of<int>(random, {15, 16, 17, 31, 32, 33, 64, 65});
  chain.resident = chance(random, 30);
  chain.eager = chance(random, 20);
  // Mostly what takes some milliseconds.
  const double most_work = chance(random, 85) ? 4e5 : 3e6;
  Layer last = dense(chance(random, 50) ? 10 : random.integer(2, 17), random);
  last.activation = Activation::kSoftmax;

  std::vector<Layer> layers;
  // Draws until a layer fits and is cheap enough, a few times.
  const auto append = [&](const auto& draw) {
    for (int tries = 4; tries > 0; --tries) {
      std::vector<Layer> longer = layers;
      longer.push_back(draw(random));
      chain.layers = closed(longer, last);
      if (!valid(chain) || work(chain.model(), chain.batch) > most_work) continue;
      layers = std::move(longer);
      return;
    }
  };
  chain.samples = chain.batch + random.integer(1, chain.batch);
  for (int left = random.integer(1, 6); left > 0; --left) {
    const int kind = random.integer(1, 100);
    append(kind <= 55 ? conv : kind <= 75 ? pool : dropout);
    if (kind <= 35) append(pool);  // pairs may be fused
  }
  append(flatten);
  for (int left = random.integer(0, 3); left > 0; --left) {
    const int kind = random.integer(1, 100);
    append(kind <= 60 ? hidden : kind <= 90 ? dropout : flatten);
  }
  chain.layers = closed(layers, last);
  return chain;
}

Chain shrink(Chain chain, const ChainCheck& check) {
  int tries = 1000;
  std::vector<Chain> candidates = reductions(chain);
  // Round and round, until none of a whole round fails.
  for (size_t i = 0, since = 0; since < candidates.size() && tries > 0; ++i, ++since) {
    const Chain& candidate = candidates[i % candidates.size()];
    if (!valid(candidate) || to_string(candidate) == to_string(chain)) continue;
    --tries;
    if (outcome(check, candidate).empty()) continue;
    chain = candidate;
    candidates = reductions(chain);
    since = 0;
  }
  return chain;
}

void require_random_chains(int count, const ChainCheck& check) {
  if (const char* text = std::getenv("MNIST_CHAIN")) {
    INFO(text);
    REQUIRE(outcome(check, parse_chain(text)) == "");
    return;
  }
  const char* wanted = std::getenv("MNIST_CHAINS");
  count = wanted != nullptr ? std::atoi(wanted) : count / kSlowness;
  REQUIRE(count > 0);
  for (int i = 0; i < count; ++i) {
    Random random(uint64_t(i) << 32);
    const Chain chain = draw_chain(random);
    if (wanted != nullptr) std::cerr << to_string(chain) << std::endl;
    INFO("chain " << i << ": " << to_string(chain));
    const std::string wrong = outcome(check, chain);
    if (wrong.empty()) continue;
    const Chain small = shrink(chain, check);
    // Here too, since Catch breaks lines.
    std::cerr << "chain " << i << " fails: " << to_string(chain) << "\nMNIST_CHAIN=\""
              << to_string(small) << "\" fails too" << std::endl;
    FAIL(wrong << "\n\nshrunk: " << to_string(small) << "\n" << outcome(check, small));
  }
  SUCCEED("all chains");
}

// Kernels that keep the size of what passes, and biases that keep most ReLUs alive.
std::vector<float> random_weights(const Model& model, Random& random) {
  std::vector<float> weights(model.arena_size);
  for (const Parameter& p : model.parameters) {
    const bool bias = p.name == "bias";
    const float most =
        bias ? 0.2f : float(std::sqrt(6.0 * double(p.shape.back()) / double(p.size)));
    for (size_t i = 0; i < p.size; ++i)
      weights[p.offset + i] = bias ? random.real(-most / 2, most) : random.real(-most, most);
  }
  return weights;
}

}  // namespace mnist::test
