#include "host/recognition/second_opinion.h"

#include <vector>

#include "host/error.h"
#include "host/model/model.h"
#include "host/recognition/second_opinion_weights.h"

namespace mnist {

std::unique_ptr<Engine> make_second_opinion() {
  const Model model = parse_arch(kSecondOpinionArch);
  const std::span<const ScaledWeights> tensors = second_opinion_weights();
  const std::vector<float> zeros(model.arena_size);
  std::vector<float> weights = zeros;
  if (tensors.size() != model.parameters.size())
    throw Error(ExitCode::kInternal, "the second opinion's weights are not its network's");
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Parameter& parameter = model.parameters[i];
    if (tensors[i].numbers.size() != parameter.size)
      throw Error(ExitCode::kInternal, "the second opinion's weights are not its network's");
    for (size_t k = 0; k < parameter.size; ++k)
      weights[parameter.offset + k] = tensors[i].scale * float(tensors[i].numbers[k]);
  }
  std::unique_ptr<Engine> engine = make_engine(Target::kCpu, model, {});
  engine->load({.weights = weights, .m = zeros, .v = zeros, .iteration = 0});
  return engine;
}

}  // namespace mnist
