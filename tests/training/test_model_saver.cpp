// Saving beside the training: the newest state reaches the disk, and a failed write is heard of.
#include "host/training/model_saver.h"

#include <limits>

#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/error_code.h"
#include "tests/support/model_cases.h"

namespace mnist {
namespace {

using namespace test;

struct States {
  Model model = parse_arch("pool:14,flatten,dense:2");
  Random random;

  std::vector<float> weights() { return random_arena(model, random); }
  RunState state() { return random_state(model, random); }
};

// A state that is there at once.
class Ready final : public SavedState {
 public:
  Ready(std::vector<float> weights, const RunState& run)
      : state_{.weights = std::move(weights),
               .m = run.m,
               .v = run.v,
               .iteration = run.iteration,
               .learning_rate = run.learning_rate} {}
  void get(OptimizerState& state) override { state = state_; }

 private:
  const OptimizerState state_;
};

void submit(ModelSaver& saver, std::vector<float> weights, const RunState& state) {
  saver.submit(std::make_unique<Ready>(std::move(weights), state), state);
}

constexpr auto kNothing = [](const std::vector<float>&, const RunState&) {};

TEST_CASE("the last state submitted is on disk after finish()", "[model_saver]") {
  const TemporaryDirectory dir;
  States states;
  ModelSaver saver(dir / "m.h5", states.model, kNothing);
  for (const int count : {1, 2, 20}) {
    std::vector<float> last;
    for (int i = 0; i < count; ++i) submit(saver, last = states.weights(), states.state());
    saver.finish();
    CHECK(same_bits(read_model_file(dir / "m.h5").weights, last));
  }
}

TEST_CASE("a saver that is destroyed writes what waits", "[model_saver]") {
  const TemporaryDirectory dir;
  States states;
  std::vector<float> last;
  {
    ModelSaver saver(dir / "m.h5", states.model, kNothing);
    for (int i = 0; i < 3; ++i) submit(saver, last = states.weights(), states.state());
  }
  CHECK(same_bits(read_model_file(dir / "m.h5").weights, last));
}

TEST_CASE("the error of a write is thrown once, and later states are saved", "[model_saver]") {
  const TemporaryDirectory dir;
  States states;
  ModelSaver saver(dir / "m.h5", states.model, kNothing);
  const std::vector<float> first = states.weights(), second = states.weights();
  submit(saver, first, states.state());
  saver.finish();

  std::vector<float> unfit = first;
  unfit[0] = std::numeric_limits<float>::quiet_NaN();
  submit(saver, unfit, states.state());
  CHECK(code_of([&] { saver.finish(); }) == int(ExitCode::kInternal));
  CHECK_NOTHROW(saver.finish());
  CHECK(same_bits(read_model_file(dir / "m.h5").weights, first));

  submit(saver, second, states.state());
  saver.finish();
  CHECK(same_bits(read_model_file(dir / "m.h5").weights, second));
}

TEST_CASE("what must come before a write does, or the write does not happen", "[model_saver]") {
  const TemporaryDirectory dir;
  States states;
  int calls = 0;
  bool too_late = false;
  ModelSaver saver(dir / "m.h5", states.model, [&](const std::vector<float>&, const RunState&) {
    too_late |= std::filesystem::exists(dir / "m.h5");
    if (++calls == 1) throw Error(ExitCode::kIoError, "the log cannot be written");
  });
  submit(saver, states.weights(), states.state());
  CHECK(code_of([&] { saver.finish(); }) == int(ExitCode::kIoError));
  CHECK_FALSE(std::filesystem::exists(dir / "m.h5"));
  submit(saver, states.weights(), states.state());
  saver.finish();
  CHECK(std::filesystem::exists(dir / "m.h5"));
  CHECK(calls == 2);
  CHECK_FALSE(too_late);
}

}  // namespace
}  // namespace mnist
