// The table of a model's layers, like Keras' summary().
#include <fmt/format.h>

#include <algorithm>

#include "host/model/model.h"
#include "host/text.h"

namespace mnist {
namespace {

// Columns as wide as Keras' own; a longer text pushes the next column, but never touches it.
std::string row(const std::string& a, const std::string& b, const std::string& c) {
  std::string line = a;
  line.resize(std::max<size_t>(34, line.size() + 1), ' ');
  line += b;
  line.resize(std::max<size_t>(58, line.size() + 1), ' ');
  return line + c + "\n";
}

}  // namespace

std::string shape_text(const Layer& layer) {
  const Extent& output = layer.output;
  return layer.flat ? fmt::format("{}", output.c)
                    : fmt::format("{}, {}, {}", output.h, output.w, output.c);
}

std::string summary(const Model& model) {
  const std::string thin(70, '_'), thick(70, '=');
  std::string text = thin + "\n" + row("Layer (type)", "Output shape", "Param #") + thick + "\n";
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const Layer& l = model.layers[i];
    text += row(fmt::format("{} ({})", l.name, class_name(l.kind)),
                fmt::format("(None, {})", shape_text(l)),
                grouped(int64_t(model.parameter_count(int(i)))));
  }
  return text + thick +
         fmt::format("\nTotal params: {} ({} KiB)\n", grouped(model.parameter_count()),
                     grouped((model.parameter_count() * sizeof(float) + 1023) / 1024));
}

}  // namespace mnist
