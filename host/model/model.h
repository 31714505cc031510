// A Sequential chain of layers, its shapes, and where the arena holds each parameter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mnist {

enum class LayerKind { kConv2D, kMaxPool2D, kFlatten, kDropout, kDense };
enum class Activation { kLinear, kRelu, kSoftmax };
enum class Padding { kValid, kSame };

const char* class_name(LayerKind kind);      // Keras': Conv2D, MaxPooling2D, ...
const char* name_of(Activation activation);  // linear, relu, softmax
const char* name_of(Padding padding);        // valid, same

// Height, width, channels of one sample; a flat vector of n values is {1, 1, n}.
struct Extent {
  int h = 1, w = 1, c = 1;
  int64_t size() const { return int64_t(h) * w * c; }
  bool operator==(const Extent&) const = default;
};

struct Layer {
  LayerKind kind = LayerKind::kFlatten;
  std::string name;  // Keras' default names: conv2d, conv2d_1, max_pooling2d, flatten, dense, ...
  Activation activation = Activation::kLinear;
  int units = 0;                   // filters of a convolution, units of a dense layer
  int window_h = 1, window_w = 1;  // filter or pooling window
  int stride_h = 1, stride_w = 1;
  Padding padding = Padding::kValid;
  bool use_bias = true;
  double rate = 0;  // dropout

  // Filled in by make_model().
  Extent input, output;
  bool flat = false;         // the output is a vector, not an image
  int pad_h = 0, pad_w = 0;  // rows and columns of padding before the first (Keras: floor of half)

  bool has_weights() const;
  bool has_window() const;
};

// Floating-point operations of a layer's forward pass on one sample; a multiplication with an
// addition counts as two.
double forward_flops(const Layer& layer);

// One trainable tensor. `offset` counts floats from the start of the arena and is a multiple of 4,
// so that every tensor is aligned to 16 bytes.
struct Parameter {
  int layer;                   // index in Model::layers
  std::string name;            // "kernel" or "bias"
  std::vector<int64_t> shape;  // [R,S,C,K], [in,out] or [units]
  size_t offset;
  size_t size;
};

struct Model {
  Extent input;
  std::vector<Layer> layers;
  std::vector<Parameter> parameters;  // layer by layer, kernel before bias
  size_t arena_size = 0;              // floats, gaps between the tensors included

  size_t parameter_count() const;  // gaps not included
  size_t parameter_count(int layer) const;
  int classes() const { return layers.back().units; }
  // Null: the layer has none of that name.
  const Parameter* find(int layer, const std::string& name) const {
    for (const Parameter& parameter : parameters)
      if (parameter.layer == layer && parameter.name == name) return &parameter;
    return nullptr;
  }
};

inline constexpr int kMnistSide = 28;  // pixels
inline constexpr int kMnistClasses = 10;
inline constexpr Extent kMnistExtent{kMnistSide, kMnistSide, 1};
inline constexpr const char* kDefaultArch =
    "conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128,dense:10";

// Checks the chain and fills in names (where empty), shapes, padding and arena. The last layer must
// be dense with softmax, no other may have softmax. Throws Error(kUsage) naming the layer.
Model make_model(const Extent& input, std::vector<Layer> layers);

// Parses an --arch text: layers separated by commas, each `kind:size[:option...]`:
//   conv:32x3   conv:16x5x3 (5 rows, 3 columns)   options :same :valid :stride2 :stride2x1
//   pool:2      pool:3x2    options as above (stride defaults to the window)
//   flatten     dropout:0.5     dense:128
// conv and dense also take :linear (no ReLU) and :nobias.
// ReLU on every conv and dense but the last dense, which gets softmax. Throws Error(kUsage).
Model parse_arch(const std::string& arch, const Extent& input = kMnistExtent);

// The text that parse_arch() turns into this model.
std::string arch_string(const Model& model);

// What a layer gives for each sample, without the batch: "26, 26, 32"; "1600".
std::string shape_text(const Layer& layer);

// A table like Keras' summary(): one line per layer with output shape and parameters.
std::string summary(const Model& model);

}  // namespace mnist
