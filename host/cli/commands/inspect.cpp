// The inspect command: what is in a model file.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/model/layer_kinds.h"

namespace mnist::cli {
namespace {

Json layer_json(const Model& model, int index) {
  const Layer& layer = model.layers[size_t(index)];
  const KindDescription& kind = describe(layer.kind);
  Json json{{"name", layer.name}, {"kind", kind.class_name}};
  if (kind.has(Attribute::kUnits)) json["units"] = layer.units;
  if (kind.has(Attribute::kActivation)) json["activation"] = name_of(layer.activation);
  if (kind.has(Attribute::kWindow)) json["window"] = {layer.window_h, layer.window_w};
  if (kind.has(Attribute::kStrides)) json["strides"] = {layer.stride_h, layer.stride_w};
  if (kind.has(Attribute::kPadding)) json["padding"] = name_of(layer.padding);
  if (kind.has(Attribute::kRate)) json["rate"] = layer.rate;
  json["output"] = {layer.output.h, layer.output.w, layer.output.c};
  Json parameters = Json::object();
  for (const Parameter& parameter : model.parameters)
    if (parameter.layer == index) parameters[parameter.name] = parameter.shape;
  json["parameters"] = parameters;
  return json;
}

Json state_json(const RunState& state) {
  return {{"epoch", state.epoch},
          {"batch", state.batch},
          {"iteration", state.iteration},
          {"learning_rate", Json::parse(fmt::format("{}", state.learning_rate))},
          {"batch_size", state.batch_size},
          {"math", name_of(state.math)},
          {"seed", state.seed},
          {"shuffle", state.shuffle},
          {"dataset", state.dataset},
          {"train_samples", state.train_samples},
          {"log_bytes", state.log_bytes}};
}

std::string state_text(const RunState& state) {
  std::string reached = counted(state.epoch, "epoch");
  if (state.batch > 0) reached += " and " + counted(state.batch, "step");
  return fmt::format(
      "Training: {} ({} updates) on {} images of {}, batch size {}, learning rate {}, seed {}, "
      "shuffle {}{}\n",
      reached, grouped(state.iteration), grouped(state.train_samples), state.dataset,
      state.batch_size, state.learning_rate, state.seed, state.shuffle ? "on" : "off",
      state.math == Math::kFp16 ? ", in FP16" : "");
}

std::string checksum_text(const ModelFile& file) {
  if (file.checksum.empty()) return "none in the file";
  return file.checksum + (file.checksum_verified ? " (verified)" : " (not verified)");
}

}  // namespace

ExitCode run_inspect(int argc, char** argv, Results& results) {
  Parser parser("inspect", "What is in a model file: layers, training state, checksum.",
                {"cuda-mnist inspect mnist.h5"});
  std::string path;
  bool json = false;
  parser.add_option("FILE", path, "Model file")->required()->type_name("");
  add_json_flag(parser, json, "One JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const ModelFile file = load_model(path);
  if (json) {
    Json layers = Json::array();
    for (int i = 0; i < int(file.model.layers.size()); ++i)
      layers.push_back(layer_json(file.model, i));
    results.json(Json{{"file", path},
                      {"writer", file.writer},
                      {"arch", arch_string(file.model)},
                      {"input", {file.model.input.h, file.model.input.w, file.model.input.c}},
                      {"parameters", file.model.parameter_count()},
                      {"layers", layers},
                      {"checksum", file.checksum.empty() ? Json() : Json(file.checksum)},
                      {"checksum_verified", file.checksum_verified},
                      {"training", file.state ? state_json(*file.state) : Json()},
                      {"warnings", file.warnings}});
    return ExitCode::kOk;
  }
  std::string text = fmt::format("{}: written by {}\n\n{}\nTensor SHA-256: {}\n", path, file.writer,
                                 summary(file.model), checksum_text(file));
  text += file.state ? state_text(*file.state)
                     : "Training: no state to resume; train --init starts from these weights\n";
  results.text(text);
  return ExitCode::kOk;
}

}  // namespace mnist::cli
