// The chain of layers: parsing --arch, inferring shapes as Keras does, laying out the arena.
//
// Windows: `valid` gives floor((n-k)/s)+1 positions; `same` gives ceil(n/s), with
// max((out-1)*s+k-n, 0) rows of padding, the smaller half of them first.
#include "host/model/model.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <set>
#include <string_view>

#include "host/error.h"

namespace mnist {
namespace {

// No honest network for these data comes near; it keeps every size computation within 64 bits.
constexpr int64_t kMaxElements = int64_t(1) << 28;
constexpr size_t kMaxLayers = 1000;
constexpr int kMaxPoolPositions = 256;  // kernels/shapes.h: the winner's place is one byte
constexpr size_t kAlignment = 4;        // floats

[[noreturn]] void fail(const std::string& message) {
  throw Error(ExitCode::kUsage, message);
}

std::string by(int a, int b) {
  return std::to_string(a) + "x" + std::to_string(b);
}

struct KindNames {
  LayerKind kind;
  const char* arch;   // in --arch
  const char* keras;  // the default layer name
  const char* type;   // the class
};
constexpr KindNames kKinds[] = {{LayerKind::kConv2D, "conv", "conv2d", "Conv2D"},
                                {LayerKind::kMaxPool2D, "pool", "max_pooling2d", "MaxPooling2D"},
                                {LayerKind::kFlatten, "flatten", "flatten", "Flatten"},
                                {LayerKind::kDropout, "dropout", "dropout", "Dropout"},
                                {LayerKind::kDense, "dense", "dense", "Dense"}};

const KindNames& names_of(LayerKind kind) {
  return kKinds[size_t(kind)];
}

// ---- names --------------------------------------------------------------------------------------

// A name becomes a path component in an HDF5 file, an ASCII attribute and part of a message.
void check_name(const std::string& name) {
  const bool printable =
      std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~' && c != '/'; });
  if (!printable || name.size() > 255 || name == "." || name == "..")
    fail(
        "a layer has a name that is not plain printable ASCII without spaces and slashes, or is "
        "longer than 255 characters; rename it");
  if (name == "top_level_model_weights")
    fail("a layer is called top_level_model_weights, which Keras reserves; rename it");
}

void name_layers(std::vector<Layer>& layers) {
  std::set<std::string> taken;
  for (const Layer& layer : layers) {
    if (layer.name.empty()) continue;
    check_name(layer.name);
    if (!taken.insert(layer.name).second)
      fail("two layers are called " + layer.name + "; rename one of them");
  }
  int next[std::size(kKinds)] = {};
  for (Layer& layer : layers) {
    int& number = next[size_t(layer.kind)];
    while (layer.name.empty()) {
      std::string name = names_of(layer.kind).keras;
      if (number > 0) name += "_" + std::to_string(number);
      ++number;
      if (taken.insert(name).second) layer.name = name;
    }
  }
}

// ---- shapes -------------------------------------------------------------------------------------

int64_t bounded_product(const Layer& layer, const char* what,
                        std::initializer_list<int64_t> sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes) {
    product *= size;
    if (product > kMaxElements)
      fail(layer.name + ": more than 2^28 " + what + "; choose smaller sizes");
  }
  return product;
}

struct Axis {
  int output, pad;
};

Axis slide(int n, int window, int stride, Padding padding) {
  if (padding == Padding::kValid) return {(n - window) / stride + 1, 0};
  const int64_t output = (int64_t(n) + stride - 1) / stride;
  const int64_t total = std::max<int64_t>((output - 1) * stride + window - n, 0);
  return {int(output), int(total / 2)};
}

void infer_window(Layer& layer) {
  const Extent& in = layer.input;
  if (layer.window_h < 1 || layer.window_w < 1)
    fail(layer.name + ": a window needs at least one row and one column");
  if (layer.stride_h < 1 || layer.stride_w < 1) fail(layer.name + ": a stride is at least 1");
  if (layer.padding == Padding::kValid && (layer.window_h > in.h || layer.window_w > in.w))
    fail(layer.name + ": a " + by(layer.window_h, layer.window_w) + " window does not fit its " +
         by(in.h, in.w) + " input; use :same padding or a smaller window");
  const Axis rows = slide(in.h, layer.window_h, layer.stride_h, layer.padding);
  const Axis cols = slide(in.w, layer.window_w, layer.stride_w, layer.padding);
  const int channels = layer.kind == LayerKind::kConv2D ? layer.units : in.c;
  layer.pad_h = rows.pad;
  layer.pad_w = cols.pad;
  layer.output = {rows.output, cols.output, channels};
  bounded_product(layer, "output values", {rows.output, cols.output, channels});
}

// Activations stay images until the first flatten; a Keras Dense would act on an image's last axis
// alone, which is never what is meant here.
void infer_layer(Layer& layer, bool& flat, bool last) {
  const bool has_weights = layer.kind == LayerKind::kConv2D || layer.kind == LayerKind::kDense;
  if (!has_weights && layer.activation != Activation::kLinear)
    fail(layer.name + ": only conv and dense layers have an activation");
  if (has_weights && layer.units < 1) fail(layer.name + ": needs at least one unit");
  if (!last && layer.activation == Activation::kSoftmax)
    fail(layer.name + ": only the last layer may have softmax; use relu");

  layer.output = layer.input;
  switch (layer.kind) {
    case LayerKind::kConv2D:
    case LayerKind::kMaxPool2D:
      if (flat)
        fail(layer.name +
             ": needs an image, but its input is a flat vector; put it before the "
             "flatten layer");
      if (layer.kind == LayerKind::kMaxPool2D && layer.window_h > 0 && layer.window_w > 0 &&
          int64_t(layer.window_h) * layer.window_w > kMaxPoolPositions)
        fail(layer.name + ": a pooling window has at most 256 positions; use a smaller window");
      infer_window(layer);
      break;
    case LayerKind::kFlatten:
      layer.output = {1, 1, int(layer.input.size())};
      flat = true;
      break;
    case LayerKind::kDropout:
      if (!(layer.rate >= 0 && layer.rate < 1))
        fail(layer.name + ": a dropout rate is at least 0 and less than 1");
      break;
    case LayerKind::kDense:
      if (!flat)
        fail(layer.name + ": a dense layer needs a flat vector, but its input is " +
             by(layer.input.h, layer.input.w) + "x" + std::to_string(layer.input.c) +
             "; insert a flatten layer before it");
      layer.output = {1, 1, layer.units};
      break;
  }
}

// ---- arena --------------------------------------------------------------------------------------

void add_parameter(Model& model, int layer, const char* name, std::vector<int64_t> shape) {
  int64_t size = 1;
  for (const int64_t s : shape)
    size = bounded_product(model.layers[layer], "parameters", {size, s});
  model.parameters.push_back({layer, name, std::move(shape), model.arena_size, size_t(size)});
  model.arena_size = (model.arena_size + size_t(size) + kAlignment - 1) / kAlignment * kAlignment;
  if (model.arena_size > size_t(kMaxElements))
    fail(model.layers[layer].name + ": more than 2^28 parameters in all; choose smaller sizes");
}

void lay_out(Model& model) {
  for (int i = 0; i < int(model.layers.size()); ++i) {
    const Layer& l = model.layers[i];
    if (l.kind == LayerKind::kConv2D)
      add_parameter(model, i, "kernel", {l.window_h, l.window_w, l.input.c, l.units});
    else if (l.kind == LayerKind::kDense)
      add_parameter(model, i, "kernel", {l.input.c, l.units});
    else
      continue;
    if (l.use_bias) add_parameter(model, i, "bias", {l.units});
  }
}

// ---- --arch -------------------------------------------------------------------------------------

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  size_t end = 0;
  while ((end = text.find(separator)) != text.npos) {
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  parts.push_back(text);
  return parts;
}

[[noreturn]] void fail_arch(std::string_view item, const std::string& expected) {
  fail("--arch: \"" + std::string(item) + "\": " + expected);
}

template <class T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// `AxBxC`: between 1 and 3 positive numbers.
std::vector<int> parse_sizes(std::string_view text) {
  std::vector<int> sizes;
  for (const std::string_view part : split(text, 'x')) {
    int value = 0;
    if (!parse_number(part, value) || value < 1 || sizes.size() == 3) return {};
    sizes.push_back(value);
  }
  return sizes;
}

// One option of a layer; false if that kind does not know it.
bool parse_option(Layer& layer, std::string_view option) {
  const bool windowed = layer.kind == LayerKind::kConv2D || layer.kind == LayerKind::kMaxPool2D;
  const bool weighted = layer.kind == LayerKind::kConv2D || layer.kind == LayerKind::kDense;
  if (windowed && option == "same") {
    layer.padding = Padding::kSame;
  } else if (windowed && option == "valid") {
    layer.padding = Padding::kValid;
  } else if (windowed && option.substr(0, 6) == "stride") {
    const std::vector<int> sizes = parse_sizes(option.substr(6));
    if (sizes.empty() || sizes.size() > 2) return false;
    layer.stride_h = sizes.front();
    layer.stride_w = sizes.back();
  } else if (weighted && option == "linear") {
    layer.activation = Activation::kLinear;
  } else if (weighted && option == "nobias") {
    layer.use_bias = false;
  } else {
    return false;
  }
  return true;
}

Layer parse_layer(std::string_view item) {
  const std::vector<std::string_view> parts = split(item, ':');
  const auto* kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](const KindNames& k) { return parts[0] == k.arch; });
  if (kind == std::end(kKinds))
    fail_arch(item, "unknown layer; there are conv, pool, flatten, dropout and dense");
  Layer layer;
  layer.kind = kind->kind;
  const std::string_view size = parts.size() > 1 ? parts[1] : std::string_view();
  const std::vector<int> sizes = parse_sizes(size);
  size_t options_begin = 2;
  switch (layer.kind) {
    case LayerKind::kConv2D:
      if (sizes.size() < 2) fail_arch(item, "write conv:FILTERSxWINDOW, for example conv:32x3");
      layer.units = sizes[0];
      layer.window_h = sizes[1];
      layer.window_w = sizes.back();
      layer.activation = Activation::kRelu;
      break;
    case LayerKind::kMaxPool2D:
      if (sizes.empty() || sizes.size() > 2)
        fail_arch(item, "write pool:WINDOW, for example pool:2 or pool:3x2");
      layer.window_h = layer.stride_h = sizes.front();
      layer.window_w = layer.stride_w = sizes.back();
      break;
    case LayerKind::kFlatten:
      options_begin = 1;
      break;
    case LayerKind::kDropout:
      if (!parse_number(size, layer.rate) || !(layer.rate >= 0 && layer.rate < 1))
        fail_arch(item, "write dropout:RATE with a rate of at least 0 and less than 1");
      break;
    case LayerKind::kDense:
      if (sizes.size() != 1) fail_arch(item, "write dense:UNITS, for example dense:128");
      layer.units = sizes[0];
      layer.activation = Activation::kRelu;
      break;
  }
  for (size_t i = options_begin; i < parts.size(); ++i)
    if (!parse_option(layer, parts[i]))
      fail_arch(item, "unknown option \"" + std::string(parts[i]) +
                          "\"; conv and pool take same, valid, stride2, stride2x1; conv and dense "
                          "take linear, nobias");
  return layer;
}

// ---- text ---------------------------------------------------------------------------------------

std::string sizes_text(int a, int b) {
  return a == b ? std::to_string(a) : by(a, b);
}

std::string rate_text(double rate) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, rate).ptr};
}

std::string layer_text(const Layer& l, bool last) {
  std::string text = names_of(l.kind).arch;
  const bool pool = l.kind == LayerKind::kMaxPool2D;
  switch (l.kind) {
    case LayerKind::kConv2D:
      text += ":" + std::to_string(l.units) + "x" + sizes_text(l.window_h, l.window_w);
      break;
    case LayerKind::kMaxPool2D:
      text += ":" + sizes_text(l.window_h, l.window_w);
      break;
    case LayerKind::kFlatten:
      break;
    case LayerKind::kDropout:
      text += ":" + rate_text(l.rate);
      break;
    case LayerKind::kDense:
      text += ":" + std::to_string(l.units);
      break;
  }
  if (l.kind == LayerKind::kConv2D || pool) {
    if (l.padding == Padding::kSame) text += ":same";
    const int default_h = pool ? l.window_h : 1, default_w = pool ? l.window_w : 1;
    if (l.stride_h != default_h || l.stride_w != default_w)
      text += ":stride" + sizes_text(l.stride_h, l.stride_w);
  }
  if (l.kind == LayerKind::kConv2D || l.kind == LayerKind::kDense) {
    if (l.activation == Activation::kLinear && !last) text += ":linear";
    if (!l.use_bias) text += ":nobias";
  }
  return text;
}

std::string grouped(size_t number) {
  std::string digits = std::to_string(number);
  for (int i = int(digits.size()) - 3; i > 0; i -= 3) digits.insert(size_t(i), ",");
  return digits;
}

// Columns as wide as Keras' own; a longer text pushes the next column, but never touches it.
std::string row(const std::string& a, const std::string& b, const std::string& c) {
  std::string line = a;
  line.resize(std::max<size_t>(34, line.size() + 1), ' ');
  line += b;
  line.resize(std::max<size_t>(58, line.size() + 1), ' ');
  return line + c + "\n";
}

}  // namespace

size_t Model::parameter_count() const {
  size_t count = 0;
  for (const Parameter& p : parameters) count += p.size;
  return count;
}

Model make_model(const Extent& input, std::vector<Layer> layers) {
  if (input.h < 1 || input.w < 1 || input.c < 1)
    fail("the input of the model needs at least one value in each direction");
  if (layers.empty()) fail("the model has no layers; it needs at least a dense one at the end");
  if (layers.size() > kMaxLayers)
    fail("the model has more than " + std::to_string(kMaxLayers) + " layers; use fewer");
  name_layers(layers);
  bounded_product(layers.front(), "input values", {input.h, input.w, input.c});

  bool flat = input.h == 1 && input.w == 1;
  Extent extent = input;
  for (Layer& layer : layers) {
    layer.input = extent;
    infer_layer(layer, flat, &layer == &layers.back());
    extent = layer.output;
  }
  const Layer& last = layers.back();
  if (last.kind != LayerKind::kDense || last.activation != Activation::kSoftmax)
    fail(last.name +
         ": the last layer must be a dense layer with softmax, one unit per class; end "
         "the model with dense:10");

  Model model;
  model.input = input;
  model.layers = std::move(layers);
  lay_out(model);
  return model;
}

Model parse_arch(const std::string& arch, const Extent& input) {
  std::vector<Layer> layers;
  for (const std::string_view item : split(arch, ',')) {
    if (item.empty())
      fail("--arch: a layer is missing between two commas or at an end; example: " +
           std::string(kDefaultArch));
    layers.push_back(parse_layer(item));
  }
  if (layers.back().kind == LayerKind::kDense) layers.back().activation = Activation::kSoftmax;
  return make_model(input, std::move(layers));
}

std::string arch_string(const Model& model) {
  std::string text;
  for (const Layer& layer : model.layers) {
    const bool last = &layer == &model.layers.back();
    text += layer_text(layer, last) + (last ? "" : ",");
  }
  return text;
}

std::string summary(const Model& model) {
  const std::string thin(70, '_'), thick(70, '=');
  std::string text = thin + "\n" + row("Layer (type)", "Output shape", "Param #") + thick + "\n";
  bool flat = model.input.h == 1 && model.input.w == 1;
  for (int i = 0; i < int(model.layers.size()); ++i) {
    const Layer& l = model.layers[i];
    flat = flat || l.kind == LayerKind::kFlatten;
    std::string shape = "(None, ";
    if (!flat) shape += std::to_string(l.output.h) + ", " + std::to_string(l.output.w) + ", ";
    shape += std::to_string(l.output.c) + ")";
    size_t count = 0;
    for (const Parameter& p : model.parameters) count += p.layer == i ? p.size : 0;
    text += row(l.name + " (" + names_of(l.kind).type + ")", shape, grouped(count));
  }
  return text + thick + "\nTotal params: " + grouped(model.parameter_count()) + " (" +
         grouped((model.parameter_count() * sizeof(float) + 1023) / 1024) + " KiB)\n";
}

}  // namespace mnist
