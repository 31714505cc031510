// Reads every spelling that Keras 2 and 3 write for the supported layers.
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "host/error.h"
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

// A number, or a list of two.
void read_pair(const Json& config, const char* key, const std::string& name, int& h, int& w) {
  const Json& value = at(config, key);
  if (value.is_null()) return;
  const std::string where = name + ": " + key;
  if (const Json* pair = list(value)) {
    if (pair->size() != 2) fail(where + " does not have two entries");
    h = integer((*pair)[0], where);
    w = integer((*pair)[1], where);
  } else {
    h = w = integer(value, where);
  }
}

void require_ones(const Json& config, const char* key, const std::string& name) {
  int h = 1, w = 1;
  read_pair(config, key, name, h, w);
  if (h != 1 || w != 1) fail(name + ": " + key + " other than 1 is not supported");
}

void require_channels_last(const Json& config, const std::string& name) {
  const std::string format = text_at(config, "data_format");
  if (!format.empty() && format != "channels_last")
    fail(name + ": data_format " + format + " is not supported; use channels_last");
}

Padding read_padding(const Json& config, const std::string& name) {
  const std::string padding = text_at(config, "padding");
  if (padding.empty() || padding == "valid") return Padding::kValid;
  if (padding == "same") return Padding::kSame;
  fail(name + ": padding " + padding + " is not supported; use valid or same");
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
      fail(name + ": a ReLU with " + key + " is not supported");
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
  fail(name + ": activation " + (text.empty() ? "?" : text) +
       " is not supported; there are linear, relu and softmax");
}

bool has_weights(const Layer& layer) {
  return layer.kind == LayerKind::kConv2D || layer.kind == LayerKind::kDense;
}

// Makes an activation layer part of the layer before. ReLU may pass pooling, flattening and
// dropout, since max(x,0) commutes with all three.
void fold(std::vector<Layer>& layers, Activation activation, const std::string& name) {
  if (activation == Activation::kLinear) return;
  auto layer = layers.rbegin();
  while (activation == Activation::kRelu && layer != layers.rend() && !has_weights(*layer)) ++layer;
  if (layer == layers.rend() || !has_weights(*layer))
    fail(name + ": an activation layer is supported only after a Conv2D or Dense layer");
  if (layer->activation != Activation::kLinear && layer->activation != activation)
    fail(name + ": a second activation after " + layer->name + " is not supported");
  if (layer->activation == activation && activation == Activation::kSoftmax)
    fail(name + ": softmax after softmax is not supported");
  layer->activation = activation;
}

// ---- layers -------------------------------------------------------------------------------------

void read_weight_keys(const Json& config, Layer& layer) {
  layer.activation = activation_of(at(config, "activation"), layer.name);
  const Json& use_bias = at(config, "use_bias");
  if (!use_bias.is_null() && !use_bias.is_boolean())
    fail(layer.name + ": use_bias is neither true nor false");
  layer.use_bias = use_bias.is_null() || use_bias.get<bool>();
}

Layer read_conv2d(const Json& config, Layer layer) {
  layer.kind = LayerKind::kConv2D;
  layer.units = integer(at(config, "filters"), layer.name + ": filters");
  if (at(config, "kernel_size").is_null()) fail(layer.name + ": kernel_size is missing");
  read_pair(config, "kernel_size", layer.name, layer.window_h, layer.window_w);
  read_pair(config, "strides", layer.name, layer.stride_h, layer.stride_w);
  layer.padding = read_padding(config, layer.name);
  require_channels_last(config, layer.name);
  require_ones(config, "dilation_rate", layer.name);
  require_ones(config, "groups", layer.name);
  read_weight_keys(config, layer);
  return layer;
}

Layer read_max_pooling2d(const Json& config, Layer layer) {
  layer.kind = LayerKind::kMaxPool2D;
  layer.window_h = layer.window_w = 2;
  read_pair(config, "pool_size", layer.name, layer.window_h, layer.window_w);
  layer.stride_h = layer.window_h;
  layer.stride_w = layer.window_w;
  read_pair(config, "strides", layer.name, layer.stride_h, layer.stride_w);
  layer.padding = read_padding(config, layer.name);
  require_channels_last(config, layer.name);
  return layer;
}

Layer read_dropout(const Json& config, Layer layer) {
  layer.kind = LayerKind::kDropout;
  const Json& rate = at(config, "rate");
  if (!rate.is_number()) fail(layer.name + ": rate is not a number");
  if (!at(config, "noise_shape").is_null()) fail(layer.name + ": noise_shape is not supported");
  layer.rate = rate.get<double>();
  return layer;
}

Layer read_dense(const Json& config, Layer layer) {
  layer.kind = LayerKind::kDense;
  layer.units = integer(at(config, "units"), layer.name + ": units");
  if (!at(config, "quantization_config").is_null())
    fail(layer.name + ": quantised weights are not supported");
  read_weight_keys(config, layer);
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
  Layer layer;
  layer.name = text_at(config, "name");
  const std::string name = layer.name.empty() ? type : layer.name;
  if (!config.is_object()) fail("layer " + name + " has no config");

  if (type == "InputLayer") return;
  if (type == "Conv2D" || type == "Convolution2D") {
    layers.push_back(read_conv2d(config, layer));
  } else if (type == "MaxPooling2D" || type == "MaxPool2D") {
    layers.push_back(read_max_pooling2d(config, layer));
  } else if (type == "Flatten") {
    require_channels_last(config, name);
    layers.push_back(layer);
  } else if (type == "Dropout") {
    layers.push_back(read_dropout(config, layer));
  } else if (type == "Dense") {
    layers.push_back(read_dense(config, layer));
  } else if (type == "Activation") {
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
    fail("layer " + name + " is a " + (type.empty() ? "?" : type) +
         ", which is not supported; there are Conv2D, MaxPooling2D, Flatten, Dropout, Dense, "
         "Activation, ReLU and Softmax");
  }
}

// ---- the model ----------------------------------------------------------------------------------

// [batch, height, width, channels], [batch, height, width] (one channel) or [batch, values].
bool read_input_shape(const Json& value, Extent& input) {
  const Json* shape = list(value);
  if (!shape) return false;
  if (shape->size() < 2 || shape->size() > 4)
    fail("the input shape has " + std::to_string(shape->size()) +
         " dimensions; images have 4: batch, height, width, channels");
  int sizes[3] = {1, 1, 1};
  for (size_t i = 1; i < shape->size(); ++i)
    sizes[i - 1] = integer((*shape)[i], "dimension " + std::to_string(i) + " of the input shape");
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
  if (json.is_discarded()) fail("model_config is no JSON text");
  return json;
}

}  // namespace

ConfiguredModel parse_model_config(const std::string& text) try {
  const Json json = parse_json(text);
  const std::string type = class_of(json);
  if (type != "Sequential")
    fail("the model is a " + (type.empty() ? "?" : type) + " one; only Sequential is supported");
  const Json& config = at(json, "config");
  const Json& objects = config.is_array() ? config : at(config, "layers");  // Keras 2.2.2: the list
  if (!objects.is_array() || objects.empty()) fail("model_config has no layers");

  ConfiguredModel result;
  std::vector<Layer> layers;
  const Extent input = input_shape(config, objects);
  for (const Json& object : objects) read_layer(object, result, layers);
  if (!layers.empty() && layers.back().kind == LayerKind::kDense &&
      layers.back().activation == Activation::kLinear) {
    layers.back().activation = Activation::kSoftmax;
    result.warnings.push_back(layers.back().name + " has no activation; softmax is assumed");
  }
  result.model = make_model(input, std::move(layers));
  return result;
} catch (const Error& error) {
  fail(error.what());  // make_model() blames the usage, here it is the file
} catch (const nlohmann::json::exception& error) {
  fail(std::string("model_config is not as expected: ") + error.what());
}

}  // namespace mnist
