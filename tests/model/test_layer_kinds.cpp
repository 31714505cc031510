// The descriptions of layer kinds agree with their enumerators, and nothing else tells kinds apart.
#include "host/model/layer_kinds.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "tests/support/catch.h"

namespace mnist {
namespace {

namespace fs = std::filesystem;

std::string contents(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

ptrdiff_t count(const std::string& text, const std::regex& pattern) {
  return std::distance(std::sregex_iterator(text.begin(), text.end(), pattern), {});
}

}  // namespace

TEST_CASE("every kind of layer is described once", "[model]") {
  std::set<std::string> words, classes, names;
  for (const KindDescription& kind : layer_kinds()) {
    INFO(kind.arch);
    CHECK(&describe(kind.kind) == &kind);
    CHECK(words.insert(kind.arch).second);
    CHECK(classes.insert(kind.class_name).second);
    if (kind.other_class_name) CHECK(classes.insert(kind.other_class_name).second);
    CHECK(names.insert(kind.default_name).second);
    std::set<std::string> keys;
    for (const KerasKey& key : kind.keys) CHECK(keys.insert(key.key).second);
    // The program relies on it that these go together.
    const bool weights = kind.parameters != nullptr;
    for (const Attribute attribute :
         {Attribute::kUnits, Attribute::kActivation, Attribute::kUseBias})
      CHECK(kind.has(attribute) == weights);
    for (const Attribute attribute : {Attribute::kStrides, Attribute::kPadding})
      CHECK(kind.has(attribute) == kind.has(Attribute::kWindow));
    const bool sized = weights || kind.has(Attribute::kWindow) || kind.has(Attribute::kRate);
    CHECK((kind.usage != nullptr) == sized);
  }
  CHECK(layer_kinds().size() == size_t(LayerKind::kDense) + 1);  // the last enumerator
}

TEST_CASE("kinds in messages", "[model]") {
  CHECK(list_kinds(&KindDescription::arch, " and ") == "conv, pool, flatten, dropout and dense");
  CHECK(list_kinds(&KindDescription::class_name, " or ", Attribute::kActivation) ==
        "Conv2D or Dense");
  CHECK(list_kinds(&KindDescription::arch, " and ", Attribute::kRate) == "dropout");
}

TEST_CASE("floating-point operations of a forward pass", "[model]") {
  const Model model = parse_arch(kDefaultArch);
  std::vector<double> flops;
  for (const Layer& layer : model.layers) flops.push_back(forward_flops(layer));
  CHECK(flops == std::vector<double>{2.0 * 26 * 26 * 32 * 9, 0, 2.0 * 11 * 11 * 64 * 9 * 32, 0, 0,
                                     2.0 * 1600 * 128, 2.0 * 128 * 10});
}

// A new kind must not have to be searched for: host/README.md lists what it touches.
TEST_CASE("nothing but a backend and the description tells kinds of layers apart", "[model]") {
  // Files that name an enumerator, and how many switches on the kind each has.
  const std::set<std::string> expected{
      "host/engine/backends/cudnn/backend.cpp: 0",  // cuDNN has our dropout
      "host/engine/backends/cudnn/module.cpp: 1", "host/engine/backends/native.cpp: 1",
      "host/model/layer_kinds.cpp: 0", "host/model/model.h: 0"};  // a default
  const std::regex enumerator("LayerKind::k"), decision("switch \\([^\n]*kind\\)");
  std::set<std::string> found;
  for (const char* directory : {"host", "kernels"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(MNIST_SOURCE) / directory)) {
      if (!entry.is_regular_file()) continue;
      const std::string text = contents(entry.path());
      if (count(text, enumerator) > 0)
        found.insert(fs::relative(entry.path(), MNIST_SOURCE).string() + ": " +
                     std::to_string(count(text, decision)));
    }
  CHECK(found == expected);
}

}  // namespace mnist
