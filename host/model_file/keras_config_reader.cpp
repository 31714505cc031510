// Reads every spelling that Keras 2 and 3 write for the supported layers.
#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "host/error.h"
#include "host/model/layer_kinds.h"
#include "host/model_file/keras_config.h"

namespace mnist {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxJsonBytes = size_t(1) << 20;
constexpr int kMaxJsonDepth = 64;

[[noreturn]] void fail(const std::string& message) {
  throw Error(ExitCode::kBadInput, message);
}

// ---- values -------------------------------------------------------------------------------------

// The value at `key`, or null if there is none.
const Json& at(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string text_at(const Json& object, const char* key) {
  const Json& value = at(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

int integer(const Json& value, const std::string& where) {
  if (value.is_number_unsigned() && value.get<uint64_t>() >= 1 && value.get<uint64_t>() <= INT_MAX)
    return value.get<int>();
  fail(where + " is not a whole number of at least 1");
}

// A list, or a tuple as Keras sometimes writes one; null otherwise.
const Json* list(const Json& value) {
  if (value.is_array()) return &value;
  const std::string class_name = text_at(value, "class_name");
  if (class_name != "__tuple__" && class_name != "TensorShape") return nullptr;
  const Json& items = at(value, "items");
  return items.is_array() ? &items : nullptr;
}

// A number, or a list of two; null changes nothing. `where` names the value in messages.
void read_pair(const Json& value, const std::string& where, int& h, int& w) {
  if (value.is_null()) return;
  if (const Json* pair = list(value)) {
    if (pair->size() != 2) fail(where + " does not have two entries");
    h = integer((*pair)[0], where);
    w = integer((*pair)[1], where);
  } else {
    h = w = integer(value, where);
  }
}

// `a>b>Conv2D` was registered by package a.
std::string class_of(const Json& object) {
  const std::string name = text_at(object, "class_name");
  return name.substr(name.rfind('>') + 1);
}

// ---- activations --------------------------------------------------------------------------------

// Keras' ReLU has a ceiling, a slope and a threshold; only max(x,0) is ours.
void require_plain_relu(const Json& config, const std::string& name) {
  if (!at(config, "max_value").is_null()) fail(name + ": a ReLU with max_value is not supported");
  for (const char* key : {"negative_slope", "threshold"}) {
    const Json& value = at(config, key);
    const Json* items = list(value);  // TF 2.0 wrote arrays
    const Json& number = items && items->size() == 1 ? (*items)[0] : value;
    if (!number.is_null() && !(number.is_number() && number.get<double>() == 0))
      fail(fmt::format("{}: a ReLU with {} is not supported", name, key));
  }
}

Activation activation_of(const Json& value, const std::string& name) {
  std::string text;
  if (value.is_null()) return Activation::kLinear;
  if (value.is_string()) {
    text = value.get<std::string>();
  } else {
    for (const char* key : {"config", "registered_name", "class_name"})
      if (text.empty()) text = text_at(value, key);
    text = text.substr(text.rfind('>') + 1);
    if (text == "ReLU") require_plain_relu(at(value, "config"), name);
  }
  if (text == "linear") return Activation::kLinear;
  if (text == "relu" || text == "ReLU") return Activation::kRelu;
  if (text == "softmax" || text == "Softmax") return Activation::kSoftmax;
  fail(fmt::format("{}: activation {} is not supported; there are linear, relu and softmax", name,
                   text.empty() ? "?" : text));
}

// Makes an activation layer part of the layer before. A ReLU may pass pooling, flattening and
// dropout.
void fold(std::vector<Layer>& layers, Activation activation, const std::string& name) {
  if (activation == Activation::kLinear) return;
  auto layer = layers.rbegin();
  while (activation == Activation::kRelu && layer != layers.rend() &&
         describe(layer->kind).commutes_with_relu)
    ++layer;
  if (layer == layers.rend() || !layer->has_weights())
    fail(fmt::format("{}: an activation layer is supported only after a {} layer", name,
                     list_kinds(&KindDescription::class_name, " or ", Attribute::kActivation)));
  if (layer->activation != Activation::kLinear && layer->activation != activation)
    fail(fmt::format("{}: a second activation after {} is not supported", name, layer->name));
  if (layer->activation == activation && activation == Activation::kSoftmax)
    fail(name + ": softmax after softmax is not supported");
  layer->activation = activation;
}

// ---- layers -------------------------------------------------------------------------------------

void require_channels_last(const Json& value, const std::string& name) {
  if (value.is_string() && !value.get<std::string>().empty() && value != "channels_last")
    fail(fmt::format("{}: data_format {} is not supported; use channels_last", name,
                     value.get<std::string>()));
}

void require_ones(const Json& value, const std::string& where) {
  int h = 1, w = 1;
  read_pair(value, where, h, w);
  if (h != 1 || w != 1) fail(where + " other than 1 is not supported");
}

Padding read_padding(const Json& value, const std::string& name) {
  const std::string padding = value.is_string() ? value.get<std::string>() : std::string();
  for (const Padding known : {Padding::kValid, Padding::kSame})
    if (padding == name_of(known)) return known;
  if (padding.empty()) return Padding::kValid;
  fail(fmt::format("{}: padding {} is not supported; use valid or same", name, padding));
}

bool read_use_bias(const Json& value, const std::string& where) {
  if (!value.is_null() && !value.is_boolean()) fail(where + " is neither true nor false");
  return value.is_null() || value.get<bool>();
}

void read_key(const Json& value, const KerasKey& key, const std::string& name, Layer& layer) {
  const std::string where = fmt::format("{}: {}", name, key.key);
  const KindDescription& kind = describe(layer.kind);
  switch (key.attribute) {
    case Attribute::kUnits:
      layer.units = integer(value, where);
      break;
    case Attribute::kWindow:
      if (value.is_null() && kind.default_window == 0) fail(where + " is missing");
      layer.window_h = layer.window_w = kind.default_window;
      read_pair(value, where, layer.window_h, layer.window_w);
      if (!kind.strides_are_window) break;
      layer.stride_h = layer.window_h;
      layer.stride_w = layer.window_w;
      break;
    case Attribute::kRate:
      if (!value.is_number()) fail(where + " is not a number");
      layer.rate = value.get<double>();
      break;
    case Attribute::kStrides:
      read_pair(value, where, layer.stride_h, layer.stride_w);
      break;
    case Attribute::kPadding:
      layer.padding = read_padding(value, name);
      break;
    case Attribute::kActivation:
      layer.activation = activation_of(value, name);
      break;
    case Attribute::kUseBias:
      layer.use_bias = read_use_bias(value, where);
      break;
    case Attribute::kChannelsLast:
      require_channels_last(value, name);
      break;
    case Attribute::kOnes:
      require_ones(value, where);
      break;
    case Attribute::kNull:
      if (!value.is_null()) fail(where + " is not supported");
      break;
    case Attribute::kSeed:
      break;
  }
}

Layer layer_of(const KindDescription& kind, const Json& config, const std::string& name) {
  Layer layer;
  layer.kind = kind.kind;
  layer.name = text_at(config, "name");
  if (layer.has_weights() && !at(config, "quantization_config").is_null())
    fail(name + ": quantised weights are not supported");
  for (const KerasKey& key : kind.keys) read_key(at(config, key.key), key, name, layer);
  return layer;
}

// Every image is scaled by 1/255 anyway, so a model that begins by doing so needs no such layer.
void check_rescaling(const Json& config, const std::string& name, bool first) {
  const Json &scale = at(config, "scale"), &offset = at(config, "offset");
  const bool same = scale.is_number() && std::abs(scale.get<double>() * 255 - 1) < 1e-6 &&
                    (offset.is_null() || (offset.is_number() && offset.get<double>() == 0));
  if (!first || !same)
    fail(name + ": Rescaling is supported only as first layer with scale 1/255 and offset 0");
}

void read_layer(const Json& object, ConfiguredModel& result, std::vector<Layer>& layers) {
  const Json& config = at(object, "config");
  const std::string type = class_of(object);
  const std::string given_name = text_at(config, "name");
  const std::string& name = given_name.empty() ? type : given_name;
  if (!config.is_object()) fail(fmt::format("layer {} has no config", name));

  for (const KindDescription& kind : layer_kinds())
    if (type == kind.class_name || (kind.other_class_name && type == kind.other_class_name)) {
      layers.push_back(layer_of(kind, config, name));
      return;
    }
  if (type == "InputLayer") return;
  if (type == "Activation") {
    fold(layers, activation_of(at(config, "activation"), name), name);
  } else if (type == "ReLU") {
    require_plain_relu(config, name);
    fold(layers, Activation::kRelu, name);
  } else if (type == "Softmax") {
    const Json& axis = at(config, "axis");
    if (!axis.is_null() && axis != Json(-1)) fail(name + ": Softmax is supported on axis -1 only");
    fold(layers, Activation::kSoftmax, name);
  } else if (type == "Rescaling") {
    check_rescaling(config, name, layers.empty());
    result.warnings.push_back(name + " is left out: every image is scaled to 0...1 anyway");
  } else {
    fail(fmt::format(
        "layer {} is a {}, which is not supported; there are {}, Activation, ReLU and Softmax",
        name, type.empty() ? "?" : type, list_kinds(&KindDescription::class_name, ", ")));
  }
}

// ---- the model ----------------------------------------------------------------------------------

// [batch, height, width, channels], [batch, height, width] (one channel) or [batch, values].
bool read_input_shape(const Json& value, Extent& input) {
  const Json* shape = list(value);
  if (!shape) return false;
  if (shape->size() < 2 || shape->size() > 4)
    fail(fmt::format(
        "the input shape has {} dimensions; images have 4: batch, height, width, channels",
        shape->size()));
  int sizes[3] = {1, 1, 1};
  for (size_t i = 1; i < shape->size(); ++i)
    sizes[i - 1] = integer((*shape)[i], fmt::format("dimension {} of the input shape", i));
  input = shape->size() == 2 ? Extent{1, 1, sizes[0]} : Extent{sizes[0], sizes[1], sizes[2]};
  return true;
}

Extent input_shape(const Json& config, const Json& layers) {
  Extent input;
  const Json& first = at(layers[0], "config");
  for (const char* key : {"batch_shape", "batch_input_shape"})
    if (read_input_shape(at(first, key), input)) return input;
  if (read_input_shape(at(config, "build_input_shape"), input)) return input;
  fail(
      "the model has no input shape; add an Input layer, or save it after a call of fit or "
      "predict");
}

Json parse_json(const std::string& text) {
  if (text.size() > kMaxJsonBytes) fail("model_config is longer than 1 MiB");
  // The callback sees each bracket with its depth before anything is built inside it.
  const auto limit = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxJsonDepth) fail("model_config is nested too deeply");
    return true;
  };
  Json json = Json::parse(text, limit, false);
  if (json.is_discarded()) fail("model_config is not JSON");
  return json;
}

}  // namespace

ConfiguredModel parse_model_config(const std::string& text) try {
  const Json json = parse_json(text);
  const std::string type = class_of(json);
  if (type != "Sequential")
    fail(fmt::format("the model is {}; only Sequential is supported",
                     type.empty() ? "of unknown class" : "a " + type + " one"));
  const Json& config = at(json, "config");
  const Json& objects = config.is_array() ? config : at(config, "layers");  // Keras 2.2.2: the list
  if (!objects.is_array() || objects.empty()) fail("model_config has no layers");

  ConfiguredModel result;
  std::vector<Layer> layers;
  const Extent input = input_shape(config, objects);
  for (const Json& object : objects) read_layer(object, result, layers);
  if (!layers.empty() && layers.back().has_weights() &&
      layers.back().activation == Activation::kLinear) {
    layers.back().activation = Activation::kSoftmax;
    result.warnings.push_back(layers.back().name + " has no activation; softmax is assumed");
  }
  result.model = make_model(input, std::move(layers));
  return result;
} catch (const Error& error) {
  fail(error.what());  // make_model() blames the usage; here the file is to blame
} catch (const nlohmann::json::exception& error) {
  fail(fmt::format("model_config is not as expected: {}", error.what()));
}

}  // namespace mnist
