// Layers as an --arch text, and back.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "host/error.h"
#include "host/model/layer_kinds.h"
#include "host/text.h"

namespace mnist {
namespace {

// ---- reading ------------------------------------------------------------------------------------

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

[[noreturn]] void fail(std::string_view item, const std::string& expected) {
  throw Error(ExitCode::kUsage, fmt::format("--arch: \"{}\": {}", item, expected));
}

// `AxBxC`: between 1 and 3 positive numbers.
std::vector<int> parse_sizes(std::string_view text) {
  std::vector<int> sizes;
  for (const std::string_view part : split(text, 'x')) {
    const auto value = parse_number<int>(part);
    if (!value || *value < 1 || sizes.size() == 3) return {};
    sizes.push_back(*value);
  }
  return sizes;
}

bool read_rate(Layer& layer, std::string_view text) {
  const auto rate = parse_number<double>(text);
  if (!rate || !(*rate >= 0 && *rate < 1)) return false;
  layer.rate = *rate;
  return true;
}

// UNITS, WINDOW or UNITSxWINDOW, where a window is one number or two. False: it is not.
bool read_sizes(Layer& layer, const KindDescription& kind, std::string_view text) {
  const std::vector<int> sizes = parse_sizes(text);
  const size_t units = kind.has(Attribute::kUnits), window = kind.has(Attribute::kWindow);
  if (sizes.size() < units + window || sizes.size() > units + 2 * window) return false;
  if (units != 0) layer.units = sizes.front();
  if (window != 0) {
    layer.window_h = sizes[units];
    layer.window_w = sizes.back();
  }
  return true;
}

// One option of a layer; false if layers of its kind have none such.
bool read_option(Layer& layer, const KindDescription& kind, std::string_view option) {
  if (kind.has(Attribute::kPadding) && option == name_of(Padding::kSame)) {
    layer.padding = Padding::kSame;
  } else if (kind.has(Attribute::kPadding) && option == name_of(Padding::kValid)) {
    layer.padding = Padding::kValid;
  } else if (kind.has(Attribute::kStrides) && option.substr(0, 6) == "stride") {
    const std::vector<int> sizes = parse_sizes(option.substr(6));
    if (sizes.empty() || sizes.size() > 2) return false;
    layer.stride_h = sizes.front();
    layer.stride_w = sizes.back();
  } else if (kind.has(Attribute::kActivation) && option == name_of(Activation::kLinear)) {
    layer.activation = Activation::kLinear;
  } else if (kind.has(Attribute::kUseBias) && option == "nobias") {
    layer.use_bias = false;
  } else {
    return false;
  }
  return true;
}

Layer parse_layer(std::string_view item) {
  const std::vector<std::string_view> parts = split(item, ':');
  const auto kinds = layer_kinds();
  const auto kind = std::find_if(kinds.begin(), kinds.end(),
                                 [&](const KindDescription& k) { return parts[0] == k.arch; });
  if (kind == kinds.end())
    fail(item, "unknown layer; there are " + list_kinds(&KindDescription::arch, " and "));

  Layer layer;
  layer.kind = kind->kind;
  const std::string_view size = parts.size() > 1 ? parts[1] : std::string_view();
  const bool sized = kind->has(Attribute::kUnits) || kind->has(Attribute::kWindow);
  const bool rated = kind->has(Attribute::kRate);
  if ((sized && !read_sizes(layer, *kind, size)) || (rated && !read_rate(layer, size)))
    fail(item, fmt::format("write {}", kind->usage));
  if (kind->strides_are_window) {
    layer.stride_h = layer.window_h;
    layer.stride_w = layer.window_w;
  }
  if (kind->has(Attribute::kActivation)) layer.activation = Activation::kRelu;

  for (size_t i = sized || rated ? 2 : 1; i < parts.size(); ++i)
    if (!read_option(layer, *kind, parts[i]))
      fail(item,
           fmt::format("unknown option \"{}\"; {} take same, valid, stride2, stride2x1; {} take "
                       "linear, nobias",
                       parts[i], list_kinds(&KindDescription::arch, " and ", Attribute::kWindow),
                       list_kinds(&KindDescription::arch, " and ", Attribute::kActivation)));
  return layer;
}

// ---- writing ------------------------------------------------------------------------------------

std::string sizes_text(int a, int b) {
  return a == b ? fmt::format("{}", a) : fmt::format("{}x{}", a, b);
}

// The shorter of fixed and scientific notation, so not as fmt writes it: model files hold the text.
std::string rate_text(double rate) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, rate).ptr};
}

std::string layer_text(const Layer& l, bool last) {
  const KindDescription& kind = describe(l.kind);
  std::string text = kind.arch;
  if (kind.has(Attribute::kUnits)) text += fmt::format(":{}", l.units);
  if (kind.has(Attribute::kWindow))
    text += (kind.has(Attribute::kUnits) ? "x" : ":") + sizes_text(l.window_h, l.window_w);
  if (kind.has(Attribute::kRate)) text += ":" + rate_text(l.rate);
  if (kind.has(Attribute::kPadding) && l.padding == Padding::kSame) text += ":same";
  if (kind.has(Attribute::kStrides)) {
    const int default_h = kind.strides_are_window ? l.window_h : 1;
    const int default_w = kind.strides_are_window ? l.window_w : 1;
    if (l.stride_h != default_h || l.stride_w != default_w)
      text += ":stride" + sizes_text(l.stride_h, l.stride_w);
  }
  if (kind.has(Attribute::kActivation) && l.activation == Activation::kLinear && !last)
    text += ":linear";
  if (kind.has(Attribute::kUseBias) && !l.use_bias) text += ":nobias";
  return text;
}

}  // namespace

Model parse_arch(const std::string& arch, const Extent& input) {
  std::vector<Layer> layers;
  for (const std::string_view item : split(arch, ',')) {
    if (item.empty())
      throw Error(ExitCode::kUsage,
                  fmt::format("--arch: a layer is missing between two commas or at an end; "
                              "example: {}",
                              kDefaultArch));
    layers.push_back(parse_layer(item));
  }
  if (layers.back().has_weights()) layers.back().activation = Activation::kSoftmax;
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

}  // namespace mnist
