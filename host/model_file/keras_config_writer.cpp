// Writes the smallest common denominator of Keras 2 and 3: no `module` keys, an explicit InputLayer
// with batch_input_shape, plain strings for dtype and initialisers.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "host/model/layer_kinds.h"
#include "host/model_file/keras_config.h"

namespace mnist {
namespace {

using Json = nlohmann::ordered_json;  // keys in Keras' order

void write_key(Json& config, const KerasKey& key, const Layer& layer) {
  Json& value = config[key.key];
  switch (key.attribute) {
    case Attribute::kUnits:
      value = layer.units;
      break;
    case Attribute::kWindow:
      value = {layer.window_h, layer.window_w};
      break;
    case Attribute::kRate:
      value = layer.rate;
      break;
    case Attribute::kStrides:
      value = {layer.stride_h, layer.stride_w};
      break;
    case Attribute::kPadding:
      value = name_of(layer.padding);
      break;
    case Attribute::kActivation:
      value = name_of(layer.activation);
      break;
    case Attribute::kUseBias:
      value = layer.use_bias;
      config["kernel_initializer"] = "glorot_uniform";
      config["bias_initializer"] = "zeros";
      for (const char* name : {"kernel_regularizer", "bias_regularizer", "activity_regularizer",
                               "kernel_constraint", "bias_constraint"})
        config[name] = nullptr;
      break;
    case Attribute::kChannelsLast:
      value = "channels_last";
      break;
    case Attribute::kOnes:
      value = {1, 1};
      break;
    case Attribute::kNull:
    case Attribute::kSeed:
      value = nullptr;
      break;
  }
}

Json layer_config(const Layer& layer) {
  Json config = {{"name", layer.name}, {"trainable", true}, {"dtype", "float32"}};
  for (const KerasKey& key : describe(layer.kind).keys)
    if (key.written) write_key(config, key, layer);
  return {{"class_name", class_name(layer.kind)}, {"config", std::move(config)}};
}

// No layer may have the name of the input.
std::string input_name(const Model& model) {
  for (int number = 1;; ++number) {
    std::string name = fmt::format("input_{}", number);
    const auto same = [&](const Layer& layer) { return layer.name == name; };
    if (std::none_of(model.layers.begin(), model.layers.end(), same)) return name;
  }
}

std::string ascii(const Json& json) {
  return json.dump(-1, ' ', true);
}

// 0.001f is to appear as 0.001, not as its nearest double.
double shortest(float value) {
  char digits[32];
  const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  double number = 0;
  std::from_chars(digits, end, number);
  return number;
}

}  // namespace

std::string model_config(const Model& model) {
  const Extent& in = model.input;
  const Json shape = in.h == 1 && in.w == 1 ? Json{nullptr, in.c} : Json{nullptr, in.h, in.w, in.c};
  Json layers = {{{"class_name", "InputLayer"},
                  {"config",
                   {{"batch_input_shape", shape},
                    {"dtype", "float32"},
                    {"sparse", false},
                    {"name", input_name(model)}}}}};
  for (const Layer& layer : model.layers) layers.push_back(layer_config(layer));
  return ascii({{"class_name", "Sequential"},
                {"config", {{"name", "sequential"}, {"layers", std::move(layers)}}}});
}

std::string training_config(float learning_rate) {
  return ascii({{"loss", "categorical_crossentropy"},
                {"metrics", Json::array({"accuracy"})},
                {"weighted_metrics", nullptr},
                {"loss_weights", nullptr},
                {"sample_weight_mode", nullptr},
                {"optimizer_config",
                 {{"class_name", "Adam"},
                  {"config",
                   {{"name", "Adam"},
                    {"learning_rate", shortest(learning_rate)},
                    {"beta_1", 0.9},
                    {"beta_2", 0.999},
                    {"epsilon", 1e-7},
                    {"amsgrad", false}}}}}});
}

}  // namespace mnist
