// Windows: `valid` gives floor((n-k)/s)+1 positions; `same` gives ceil(n/s), with
// max((out-1)*s+k-n, 0) rows of padding, the smaller half of them first.
#include "host/model/layer_kinds.h"

#include <algorithm>

namespace mnist {
namespace {

struct Axis {
  int output, pad;
};

Axis slide(int n, int window, int stride, Padding padding) {
  if (padding == Padding::kValid) return {(n - window) / stride + 1, 0};
  const int64_t output = (int64_t(n) + stride - 1) / stride;
  const int64_t total = std::max<int64_t>((output - 1) * stride + window - n, 0);
  return {int(output), int(total / 2)};
}

// One output for each position of the window, as many channels as given.
void slide_window(Layer& layer, int channels) {
  const Extent& in = layer.input;
  const Axis rows = slide(in.h, layer.window_h, layer.stride_h, layer.padding);
  const Axis cols = slide(in.w, layer.window_w, layer.stride_w, layer.padding);
  layer.pad_h = rows.pad;
  layer.pad_w = cols.pad;
  layer.output = {rows.output, cols.output, channels};
}

std::vector<ParameterShape> kernel_and_bias(const Layer& layer, std::vector<int64_t> kernel) {
  std::vector<ParameterShape> shapes{{"kernel", std::move(kernel)}};
  if (layer.use_bias) shapes.push_back({"bias", {layer.units}});
  return shapes;
}

const std::vector<KindDescription>& table() {
  using enum Attribute;
  static const std::vector<KindDescription> kinds{
      {.kind = LayerKind::kConv2D,
       .arch = "conv",
       .usage = "conv:FILTERSxWINDOW, for example conv:32x3",
       .class_name = "Conv2D",
       .other_class_name = "Convolution2D",
       .default_name = "conv2d",
       .operation = "conv2d",
       .keys = {{kUnits, "filters"},
                {kWindow, "kernel_size"},
                {kStrides, "strides"},
                {kPadding, "padding"},
                {kChannelsLast, "data_format"},
                {kOnes, "dilation_rate"},
                {kOnes, "groups", false},
                {kActivation, "activation"},
                {kUseBias, "use_bias"}},
       .takes = Takes::kImage,
       .infer = [](Layer& l) { slide_window(l, l.units); },
       .parameters =
           [](const Layer& l) {
             return kernel_and_bias(l, {l.window_h, l.window_w, l.input.c, l.units});
           },
       .forward_flops =
           [](const Layer& l) {
             return 2.0 * double(l.output.size()) * l.window_h * l.window_w * l.input.c;
           }},
      {.kind = LayerKind::kMaxPool2D,
       .arch = "pool",
       .usage = "pool:WINDOW, for example pool:2 or pool:3x2",
       .class_name = "MaxPooling2D",
       .other_class_name = "MaxPool2D",
       .default_name = "max_pooling2d",
       .operation = "maxpool2d",
       .keys = {{kWindow, "pool_size"},
                {kPadding, "padding"},
                {kStrides, "strides"},
                {kChannelsLast, "data_format"}},
       .default_window = 2,
       .takes = Takes::kImage,
       .strides_are_window = true,
       .max_positions = 256,  // kernels/shapes.h: the index of the maximum is one byte
       .commutes_with_relu = true,
       .infer = [](Layer& l) { slide_window(l, l.input.c); }},
      {.kind = LayerKind::kFlatten,
       .arch = "flatten",
       .usage = nullptr,
       .class_name = "Flatten",
       .other_class_name = nullptr,
       .default_name = "flatten",
       .operation = "",
       .keys = {{kChannelsLast, "data_format"}},
       .gives_vector = true,
       .commutes_with_relu = true,
       .infer =
           [](Layer& l) {
             l.output = {1, 1, int(l.input.size())};
           }},
      {.kind = LayerKind::kDropout,
       .arch = "dropout",
       .usage = "dropout:RATE with a rate of at least 0 and less than 1",
       .class_name = "Dropout",
       .other_class_name = nullptr,
       .default_name = "dropout",
       .operation = "dropout",
       .keys = {{kRate, "rate"}, {kNull, "noise_shape"}, {kSeed, "seed"}},
       .commutes_with_relu = true},
      {.kind = LayerKind::kDense,
       .arch = "dense",
       .usage = "dense:UNITS, for example dense:128",
       .class_name = "Dense",
       .other_class_name = nullptr,
       .default_name = "dense",
       .operation = "dense",
       .keys = {{kUnits, "units"}, {kActivation, "activation"}, {kUseBias, "use_bias"}},
       .takes = Takes::kVector,
       .gives_vector = true,
       .infer =
           [](Layer& l) {
             l.output = {1, 1, l.units};
           },
       .parameters =
           [](const Layer& l) {
             return kernel_and_bias(l, {l.input.c, l.units});
           },
       .forward_flops = [](const Layer& l) { return 2.0 * l.units * double(l.input.size()); }}};
  return kinds;
}

}  // namespace

bool KindDescription::has(Attribute attribute) const {
  return std::any_of(keys.begin(), keys.end(),
                     [&](const KerasKey& key) { return key.attribute == attribute; });
}

std::span<const KindDescription> layer_kinds() {
  return table();
}

const KindDescription& describe(LayerKind kind) {
  return table()[size_t(kind)];
}

std::string list_kinds(const char* KindDescription::*name, const char* last_separator,
                       std::optional<Attribute> having) {
  std::vector<std::string> names;
  for (const KindDescription& kind : table())
    if (!having || kind.has(*having)) names.emplace_back(kind.*name);
  std::string text = names.front();
  for (size_t i = 1; i < names.size(); ++i)
    text += (i + 1 < names.size() ? ", " : last_separator) + names[i];
  return text;
}

bool Layer::has_weights() const {
  return describe(kind).parameters != nullptr;
}

bool Layer::has_window() const {
  return describe(kind).has(Attribute::kWindow);
}

double forward_flops(const Layer& layer) {
  return describe(layer.kind).forward_flops(layer);
}

const char* class_name(LayerKind kind) {
  return describe(kind).class_name;
}

const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return "relu";
    case Activation::kSoftmax:
      return "softmax";
    case Activation::kLinear:
      break;
  }
  return "linear";
}

const char* name_of(Padding padding) {
  return padding == Padding::kSame ? "same" : "valid";
}

}  // namespace mnist
