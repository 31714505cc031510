// Checks a chain of layers, infers its shapes as Keras does, and lays out the arena.
#include "host/model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>

#include "host/error.h"
#include "host/model/layer_kinds.h"

namespace mnist {
namespace {

// Far more than any useful network for these data; every size computation stays within 64 bits.
constexpr int64_t kMaxElements = int64_t(1) << 28;
constexpr size_t kMaxLayers = 1000;
constexpr size_t kAlignment = 4;  // floats

[[noreturn]] void fail(const std::string& message) {
  throw Error(ExitCode::kUsage, message);
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
      fail(fmt::format("two layers are called {}; rename one of them", layer.name));
  }
  std::map<LayerKind, int> next;
  for (Layer& layer : layers) {
    int& number = next[layer.kind];
    while (layer.name.empty()) {
      std::string name = describe(layer.kind).default_name;
      if (number > 0) name += fmt::format("_{}", number);
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
      fail(fmt::format("{}: more than 2^28 {}; choose smaller sizes", layer.name, what));
  }
  return product;
}

void check_window(const Layer& layer, int64_t max_positions) {
  const Extent& in = layer.input;
  if (layer.window_h < 1 || layer.window_w < 1)
    fail(layer.name + ": a window needs at least one row and one column");
  if (int64_t(layer.window_h) * layer.window_w > max_positions)
    fail(fmt::format("{}: its window has at most {} positions; use a smaller window", layer.name,
                     max_positions));
  if (layer.stride_h < 1 || layer.stride_w < 1) fail(layer.name + ": a stride is at least 1");
  if (layer.padding == Padding::kValid && (layer.window_h > in.h || layer.window_w > in.w))
    fail(fmt::format(
        "{}: a {}x{} window does not fit its {}x{} input; use :same padding or a smaller window",
        layer.name, layer.window_h, layer.window_w, in.h, in.w));
}

// Activations stay images until the first flatten; a Keras Dense would act on an image's last axis
// alone, which is never what is meant here. `flat`: the input is a vector.
void check_layer(const Layer& layer, bool flat, bool last) {
  const KindDescription& kind = describe(layer.kind);
  if (!kind.has(Attribute::kActivation) && layer.activation != Activation::kLinear)
    fail(fmt::format("{}: only {} layers have an activation", layer.name,
                     list_kinds(&KindDescription::arch, " and ", Attribute::kActivation)));
  if (kind.has(Attribute::kUnits) && layer.units < 1)
    fail(layer.name + ": needs at least one unit");
  if (!last && layer.activation == Activation::kSoftmax)
    fail(layer.name + ": only the last layer may have softmax; use relu");
  if (kind.takes == Takes::kImage && flat)
    fail(layer.name +
         ": needs an image, but its input is a flat vector; put it before the flatten layer");
  if (layer.has_window()) check_window(layer, kind.max_positions);
  if (kind.has(Attribute::kRate) && !(layer.rate >= 0 && layer.rate < 1))
    fail(layer.name + ": a dropout rate is at least 0 and less than 1");
  if (kind.takes == Takes::kVector && !flat)
    fail(
        fmt::format("{}: a {} layer needs a flat vector, but its input is {}x{}x{}; insert a "
                    "flatten layer before it",
                    layer.name, kind.arch, layer.input.h, layer.input.w, layer.input.c));
}

void infer_layer(Layer& layer, bool flat) {
  const KindDescription& kind = describe(layer.kind);
  layer.output = layer.input;
  kind.infer(layer);
  layer.flat = flat || kind.gives_vector;
  if (layer.has_window())
    bounded_product(layer, "output values", {layer.output.h, layer.output.w, layer.output.c});
}

// ---- arena --------------------------------------------------------------------------------------

void add_parameter(Model& model, int layer, ParameterShape parameter) {
  const Layer& owner = model.layers[size_t(layer)];
  int64_t product = 1;
  for (const int64_t s : parameter.shape)
    product = bounded_product(owner, "parameters", {product, s});
  const auto size = size_t(product);
  model.parameters.push_back(
      {layer, parameter.name, std::move(parameter.shape), model.arena_size, size});
  model.arena_size = (model.arena_size + size + kAlignment - 1) / kAlignment * kAlignment;
  if (model.arena_size > size_t(kMaxElements))
    fail(owner.name + ": more than 2^28 parameters in all; choose smaller sizes");
}

void lay_out(Model& model) {
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const Layer& layer = model.layers[i];
    if (!layer.has_weights()) continue;
    for (ParameterShape& parameter : describe(layer.kind).parameters(layer))
      add_parameter(model, int(i), std::move(parameter));
  }
}

}  // namespace

size_t Model::parameter_count() const {
  size_t count = 0;
  for (const Parameter& p : parameters) count += p.size;
  return count;
}

size_t Model::parameter_count(int layer) const {
  size_t count = 0;
  for (const Parameter& p : parameters)
    if (p.layer == layer) count += p.size;
  return count;
}

Model make_model(const Extent& input, std::vector<Layer> layers) {
  if (input.h < 1 || input.w < 1 || input.c < 1)
    fail("the input of the model needs at least one value in each direction");
  if (layers.empty()) fail("the model has no layers; it needs at least a dense one at the end");
  if (layers.size() > kMaxLayers)
    fail(fmt::format("the model has more than {} layers; use fewer", kMaxLayers));
  name_layers(layers);
  bounded_product(layers.front(), "input values", {input.h, input.w, input.c});

  bool flat = input.h == 1 && input.w == 1;
  Extent extent = input;
  for (Layer& layer : layers) {
    layer.input = extent;
    check_layer(layer, flat, &layer == &layers.back());
    infer_layer(layer, flat);
    extent = layer.output;
    flat = layer.flat;
  }
  const Layer& last = layers.back();
  if (!last.flat || last.activation != Activation::kSoftmax)
    fail(last.name +
         ": the last layer must be a dense layer with softmax, one unit per class; end the model "
         "with dense:10");

  Model model;
  model.input = input;
  model.layers = std::move(layers);
  lay_out(model);
  return model;
}

}  // namespace mnist
