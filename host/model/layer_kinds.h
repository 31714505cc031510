// The kinds of layers: all that the program knows of a kind, apart from the operations that compute
// it. --arch, shape inference, the summary, Keras' files and inspect work from it. host/README.md
// lists what a new kind touches; tests/model/test_layer_kinds.cpp counts who asks for a kind.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "host/model/model.h"

namespace mnist {

// What Keras stores of a layer under one key.
enum class Attribute {
  // Fields of Layer.
  kUnits,
  kWindow,
  kRate,
  kStrides,
  kPadding,
  kActivation,
  kUseBias,  // comes with initialisers, regularisers and constraints
  // What is supported at one value only.
  kChannelsLast,
  kOnes,
  kNull,
  // Written as null, and not read.
  kSeed,
};

struct KerasKey {
  Attribute attribute;
  const char* key;
  bool written = true;  // false: read if it is there, but Keras 2 did not have it
};

struct ParameterShape {
  const char* name;  // kernel, bias
  std::vector<int64_t> shape;
};

enum class Takes { kAnything, kImage, kVector };

struct KindDescription {
  LayerKind kind;

  const char* arch;   // its word in --arch
  const char* usage;  // the word with its sizes, for an error message; null: it has no sizes

  const char* class_name;        // in Keras
  const char* other_class_name;  // its alias there; null: none
  const char* default_name;      // of a layer; the next ones are called <default_name>_1, ...
  const char* operation;         // its kernels in kernels.h; empty: it needs none
  std::vector<KerasKey> keys;    // in the order in which they are written
  int default_window = 0;        // where Keras' file has none; 0: it must have one

  Takes takes = Takes::kAnything;
  bool gives_vector = false;                                    // whatever it takes
  bool strides_are_window = false;                              // unless they are given
  int64_t max_positions = std::numeric_limits<int64_t>::max();  // in a window
  bool commutes_with_relu = false;                              // relu(layer(x)) = layer(relu(x))

  // Sets output (which is the input before) and padding. Input and attributes are valid.
  void (*infer)(Layer& layer) = [](Layer&) {};
  // Of the trained tensors, in Keras' order.
  std::vector<ParameterShape> (*parameters)(const Layer& layer) = nullptr;  // null: it has none
  // Floating-point operations of the forward pass on one sample.
  double (*forward_flops)(const Layer& layer) = [](const Layer&) { return 0.0; };

  bool has(Attribute attribute) const;
};

// In the order of the enumerators.
std::span<const KindDescription> layer_kinds();
const KindDescription& describe(LayerKind kind);

// That name of all kinds, or of those with an attribute: "conv, pool and dense".
std::string list_kinds(const char* KindDescription::*name, const char* last_separator,
                       std::optional<Attribute> having = {});

}  // namespace mnist
