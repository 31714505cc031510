#include <bit>

#include "host/model_file/format.h"
#include "host/os/sha256.h"

namespace mnist::model_file {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are hashed as memory holds them");

// Each item is preceded by its length, so that no two sequences of items give the same bytes.
class Digester {
 public:
  void operator()(const std::string& text) {
    (*this)(uint64_t(text.size()));
    sha_.update(std::as_bytes(std::span(text)));
  }
  void operator()(Math math) { (*this)(std::string(name_of(math))); }
  template <typename T>
  requires std::is_arithmetic_v<T>
  void operator()(const T& number) { sha_.update(std::as_bytes(std::span(&number, 1))); }
  void operator()(const std::string& name, const std::vector<int64_t>& shape,
                  std::span<const float> values) {
    (*this)(name);
    (*this)(uint64_t(shape.size()));
    for (const int64_t size : shape) (*this)(size);
    sha_.update(std::as_bytes(values));
  }
  std::string hex() { return sha_.hex(); }

 private:
  Sha256 sha_;
};

}  // namespace

std::string digest(const Texts& texts, const Model& model, std::span<const float> weights,
                   const RunState* state) {
  Digester add;
  for (const std::string* text :
       {&texts.model_config, &texts.training_config, &texts.keras_version, &texts.backend})
    add(*text);
  const auto add_arena = [&](const std::string& prefix, std::span<const float> arena) {
    for (const Parameter& p : model.parameters)
      add(prefix + path_of(model, p), p.shape, arena.subspan(p.offset, p.size));
  };
  add_arena("weights/", weights);
  if (state) {
    const auto add_scalar = [&](const char* name, const auto& value) {
      add(std::string(name));
      add(value);
    };
    for_each_attribute(*state, add_scalar);
    if (state->math == Math::kFp16) for_each_fp16_attribute(*state, add_scalar);
    for_each_scalar_dataset(*state, add_scalar);
    add_arena("m/", state->m);
    add_arena("v/", state->v);
  }
  return add.hex();
}

}  // namespace mnist::model_file
