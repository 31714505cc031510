// Writes the smallest common denominator of Keras 2 and 3: no `module` keys, an explicit InputLayer
// with batch_input_shape, plain strings for dtype and initialisers.
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "host/model_file/keras_config.h"

namespace mnist {
namespace {

using Json = nlohmann::ordered_json;  // keys in Keras' order

const char* activation_name(Activation activation) {
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

const char* padding_name(Padding padding) {
  return padding == Padding::kSame ? "same" : "valid";
}

void add_weight_keys(Json& config, const Layer& layer) {
  config["activation"] = activation_name(layer.activation);
  config["use_bias"] = layer.use_bias;
  config["kernel_initializer"] = "glorot_uniform";
  config["bias_initializer"] = "zeros";
  for (const char* key : {"kernel_regularizer", "bias_regularizer", "activity_regularizer",
                          "kernel_constraint", "bias_constraint"})
    config[key] = nullptr;
}

Json layer_config(const Layer& layer) {
  Json config = {{"name", layer.name}, {"trainable", true}, {"dtype", "float32"}};
  const Json window = {layer.window_h, layer.window_w}, strides = {layer.stride_h, layer.stride_w};
  const char* class_name = "";
  switch (layer.kind) {
    case LayerKind::kConv2D:
      class_name = "Conv2D";
      config["filters"] = layer.units;
      config["kernel_size"] = window;
      config["strides"] = strides;
      config["padding"] = padding_name(layer.padding);
      config["data_format"] = "channels_last";
      config["dilation_rate"] = {1, 1};
      add_weight_keys(config, layer);
      break;
    case LayerKind::kMaxPool2D:
      class_name = "MaxPooling2D";
      config["pool_size"] = window;
      config["padding"] = padding_name(layer.padding);
      config["strides"] = strides;
      config["data_format"] = "channels_last";
      break;
    case LayerKind::kFlatten:
      class_name = "Flatten";
      config["data_format"] = "channels_last";
      break;
    case LayerKind::kDropout:
      class_name = "Dropout";
      config["rate"] = layer.rate;
      config["noise_shape"] = nullptr;
      config["seed"] = nullptr;
      break;
    case LayerKind::kDense:
      class_name = "Dense";
      config["units"] = layer.units;
      add_weight_keys(config, layer);
      break;
  }
  return {{"class_name", class_name}, {"config", std::move(config)}};
}

// No layer may have the name of the input.
std::string input_name(const Model& model) {
  for (int number = 1;; ++number) {
    std::string name = "input_" + std::to_string(number);
    const auto same = [&](const Layer& layer) { return layer.name == name; };
    if (std::none_of(model.layers.begin(), model.layers.end(), same)) return name;
  }
}

std::string ascii(const Json& json) {
  return json.dump(-1, ' ', true);
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
  // 0.001f is to appear as 0.001, not as its nearest double.
  char digits[32];
  const char* end = std::to_chars(digits, digits + sizeof digits, learning_rate).ptr;
  double rate = 0;
  std::from_chars(digits, end, rate);
  return ascii({{"loss", "categorical_crossentropy"},
                {"metrics", Json::array({"accuracy"})},
                {"weighted_metrics", nullptr},
                {"loss_weights", nullptr},
                {"sample_weight_mode", nullptr},
                {"optimizer_config",
                 {{"class_name", "Adam"},
                  {"config",
                   {{"name", "Adam"},
                    {"learning_rate", rate},
                    {"beta_1", 0.9},
                    {"beta_2", 0.999},
                    {"epsilon", 1e-7},
                    {"amsgrad", false}}}}}});
}

}  // namespace mnist
