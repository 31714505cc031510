// The training engine as a whole: streaming against resident data, repeatability, resuming, the
// short last batch. Layer by layer in FP32, and most of it by the fused kernels in FP16 too.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#ifdef MNIST_SIMT
#include <cuda_profiler_api.h>
#endif

#include "host/engine/device/device.h"
#include "host/engine/target_engine.h"
#include "host/error.h"
#include "host/model/model.h"
#include "kernels/shapes.h"
#include "tests/engine/training_run.h"
#include "tests/support/catch.h"

namespace mnist::MNIST_TARGET {

namespace {

constexpr const char* kSmallArch = "conv:4x3:stride2,pool:2,flatten,dropout:0.25,dense:16,dense:10";

// What a test is instantiated with. FP16 is for the default network alone, which takes its time on
// a processor: `size` is how much work a test does with it.
struct Fp32 {
  static constexpr Math kMath = Math::kFp32;
  static constexpr const char* kArch = kSmallArch;
  static constexpr int size(int with_fp32, int /*with_fp16*/) { return with_fp32; }
};
struct Fp16 {
  static constexpr Math kMath = Math::kFp16;
  static constexpr const char* kArch = kDefaultArch;
  static constexpr int size(int /*with_fp32*/, int with_fp16) { return with_fp16; }
};

}  // namespace

TEST_CASE("engine: initial weights follow Glorot, biases and moments are zero", "[engine]") {
  const Model model = parse_arch(kDefaultArch);
  auto engine = make_engine(model, {.seed = 5});
  engine->initialize();
  const OptimizerState state = engine->save();
  CHECK(state.iteration == 0);
  // Limits of keras_h5's table: sqrt(6/(fan_in+fan_out)).
  const double limits[] = {0.14213, 0, 0.08333, 0, 0.05893, 0, 0.20851, 0};
  REQUIRE(model.parameters.size() == 8);
  for (size_t i = 0; i < 8; ++i) {
    const Parameter& parameter = model.parameters[i];
    double largest = 0, sum = 0;
    for (size_t j = 0; j < parameter.size; ++j) {
      const double w = state.weights[parameter.offset + j];
      REQUIRE(std::isfinite(w));
      largest = std::max(largest, std::abs(w));
      sum += w;
    }
    CHECK(largest <= limits[i] * 1.0001);
    CHECK(largest >= limits[i] * 0.98);
    CHECK(std::abs(sum / double(parameter.size)) <= limits[i] * 0.1);
  }
  CHECK(std::all_of(state.m.begin(), state.m.end(), [](float x) { return x == 0; }));
  CHECK(std::all_of(state.v.begin(), state.v.end(), [](float x) { return x == 0; }));
}

TEMPLATE_TEST_CASE("engine: learns, and counts every sample once", "[engine]", Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const int samples = TestType::size(1000, 264);
  const StripeData data(samples);
  const Run run = train(model,
                        {.math = TestType::kMath,
                         .batch_size = 32,
                         .learning_rate = TestType::kMath == Math::kFp16 ? 0.003f : 0.01f,
                         .seed = 3},
                        data, 3);
  const int batches = samples / 32 + 1;  // the last one is of 8
  for (const Metrics& epoch : run.epochs) {
    CHECK(epoch.samples == samples);
    CHECK(epoch.batches == batches);
    CHECK(epoch.first_nonfinite == 0);
    CHECK(epoch.correct <= samples);
    CHECK(epoch.saturated == 0);
  }
  CHECK(run.state.iteration == 3 * batches);
  CHECK(run.epochs[0].loss() > run.epochs[2].loss());
  CHECK(run.validation.samples == samples);
  CHECK(run.validation.accuracy() > 0.9);
}

TEMPLATE_TEST_CASE("engine: a run repeats bit for bit, streamed, resident or eager", "[engine]",
                   Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const StripeData data(TestType::size(777, 77));
  const EngineConfig config{
      .math = TestType::kMath, .batch_size = TestType::size(50, 5), .seed = 9};
  const Run first = train(model, config, data, 2);
  EngineConfig resident = config;
  resident.resident = true;
  EngineConfig eager = config;
  eager.eager = true;
  for (const EngineConfig& other : {config, resident, eager}) {
    const Run second = train(model, other, data, 2);
    CHECK(same_bits(first.state, second.state));
    CHECK(first.epochs[1].loss_sum == second.epochs[1].loss_sum);
    CHECK(first.epochs[1].correct == second.epochs[1].correct);
    CHECK(first.validation.loss_sum == second.validation.loss_sum);
  }
  EngineConfig reseeded = config;
  reseeded.seed = 10;
  CHECK(!same_bits(first.state, train(model, reseeded, data, 2).state));
}

TEST_CASE("engine: on the device that was selected", "[engine]") {
#ifdef MNIST_SIMT
  simt::set_device_count(3);
#endif
  const std::vector<DeviceInfo> all = devices();
  REQUIRE(!all.empty());
  const int last = int(all.size()) - 1;
  for (int i = 0; i <= last; ++i) {
    CHECK(all[size_t(i)].index == i);
    CHECK(!all[size_t(i)].name.empty());
  }
  CHECK(select_device(last).empty());
  CHECK(unusable_reason().empty());
  CHECK(make_engine(parse_arch(kSmallArch), {})->device().index == last);
  for (const int wrong : {-1, last + 1}) {
    const std::string reason = select_device(wrong);
    INFO(reason);
    CHECK(reason.find("there is no device " + std::to_string(wrong) + "; choose one of 0 (" +
                      all[0].name + ")") == 0);
    for (const DeviceInfo& device : all)
      CHECK(reason.find(std::to_string(device.index) + " (" + device.name + ")") !=
            std::string::npos);
  }
  CHECK(device_info().index == last);
  CHECK(select_device(0).empty());
  CHECK(device_info().index == 0);
#ifdef MNIST_SIMT
  simt::set_device_count(0);
  CHECK(devices().empty());
  CHECK(!select_device(0).empty());
  CHECK(select_device(0) == unusable_reason());
  simt::set_device_count(1);
#endif
}

#ifdef MNIST_SIMT
TEMPLATE_TEST_CASE("engine: the number of OS threads and their order change no bit", "[engine]",
                   Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const StripeData data(TestType::size(200, 40));
  EngineConfig config{
      .math = TestType::kMath, .batch_size = TestType::size(64, 16), .seed = 9, .threads = 1};
  const Run first = train(model, config, data, 1);
  config.threads = 3;
  CHECK(same_bits(first.state, train(model, config, data, 1).state));
  for (const auto order : {simt::ThreadOrder::kDescending, simt::ThreadOrder::kShuffled}) {
    simt::set_thread_order(order, 17);
    CHECK(same_bits(first.state, train(model, config, data, 1).state));
  }
  simt::set_thread_order(simt::ThreadOrder::kAscending);
  simt::set_os_threads(0);
}

// Every wait of one stream for another is needed: without one of them, one of the orders in which
// nodes of a graph and operations of streams may run gives other bits.
TEMPLATE_TEST_CASE("engine: no order of the streams' work changes a bit", "[engine]", Fp32, Fp16) {
  const bool fp16 = TestType::kMath == Math::kFp16;
  const Model model = parse_arch(fp16 ? kDefaultArch : "conv:4x3,pool:2,flatten,dense:12,dense:10");
  // An epoch is entered at its first batch, and in the middle of a round; rounds and single steps.
  const int batch_size = fp16 ? 2 : 4;
  const StripeData data(batch_size * (3 * kReportBatches + 3) - 1);
  struct Result {
    OptimizerState before, after;
    Metrics epoch, rest, validation;
  };
  const auto run = [&](bool eager) {
    auto engine = make_engine(
        model, {.math = TestType::kMath, .batch_size = batch_size, .seed = 9, .eager = eager});
    engine->initialize();
    engine->set_training_set(data.samples());
    engine->set_validation_set(data.samples());
    Result result;
    const auto order = shuffled(data.samples().count, 1);
    result.epoch = engine->train_epoch(order, 0, {}, nullptr);
    engine->evaluate();
    const auto saved = engine->begin_save();  // read back while the next epoch runs
    result.rest = engine->train_epoch(shuffled(data.samples().count, 2), 2, {}, nullptr);
    result.validation = engine->evaluate();
    saved->get(result.before);
    result.after = engine->save();
    return result;
  };
  const Result first = run(false);
  CHECK(first.before.iteration == 3 * kReportBatches + 3);
  CHECK(first.after.iteration == 2 * (3 * kReportBatches + 3) - 2);
  const auto require_same = [&](const Result& other) {
    CHECK(same_bits(first.before, other.before));
    CHECK(same_bits(first.after, other.after));
    CHECK(first.epoch.loss_sum == other.epoch.loss_sum);
    CHECK(first.rest.loss_sum == other.rest.loss_sum);
    CHECK(first.validation.loss_sum == other.validation.loss_sum);
  };
  for (const bool eager : {false, true}) {
    INFO("eager " << eager);
    require_same(run(eager));
    simt::set_thread_order(simt::ThreadOrder::kDescending);
    require_same(run(eager));
    for (const unsigned seed : {1, 2, 3}) {
      simt::set_thread_order(simt::ThreadOrder::kShuffled, seed);
      require_same(run(eager));
    }
    simt::set_thread_order(simt::ThreadOrder::kAscending);
  }
}

// What an epoch of the default configuration costs in calls of the runtime.
TEMPLATE_TEST_CASE("engine: few calls a step, and no allocation in an epoch", "[engine]", Fp32,
                   Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const int batch_size = TestType::size(4, 1);
  const StripeData data(batch_size * 10 * kReportBatches);
  const auto order = shuffled(data.samples().count, 1);
  for (const bool resident : {false, true}) {
    auto engine = make_engine(
        model,
        {.math = TestType::kMath, .batch_size = batch_size, .seed = 1, .resident = resident});
    engine->initialize();
    engine->set_training_set(data.samples());
    engine->set_validation_set(data.samples());
    OptimizerState state;
    std::map<std::string, int64_t> before, after, train;
    for (int epoch = 0; epoch < 3; ++epoch) {  // the first two record the graphs
      before = simt::calls();
      engine->train_epoch(order, 0, {}, [](const Metrics&) { return true; });
      train = simt::calls();
      engine->evaluate();
      engine->begin_save()->get(state);
      after = simt::calls();
    }
    const auto difference = [](std::map<std::string, int64_t>& to,
                               const std::map<std::string, int64_t>& from) {
      for (const auto& [name, count] : from) to[name] -= count;
      std::erase_if(to, [](const auto& entry) { return entry.second == 0; });
    };
    difference(after, train);
    difference(train, before);
    // Ten rounds of steps; the sums and the place in the epoch come and go, its first batch is
    // gathered, and weights are packed.
    CHECK(train == std::map<std::string, int64_t>{{"cudaGraphLaunch", 10},
                                                  {"cudaEventRecord", 10},
                                                  {"cudaEventSynchronize", 10 - kReports},
                                                  {"cudaLaunchKernelEx", TestType::size(1, 2)},
                                                  {"cudaMemcpyAsync", 4},
                                                  {"cudaStreamSynchronize", 2}});
    // Validation, and the copy of the state.
    CHECK(after == std::map<std::string, int64_t>{{"cudaGraphLaunch", 1},
                                                  {"cudaStreamSynchronize", 1},
                                                  {"cudaMemcpyAsync", 6},
                                                  {"cudaEventRecord", 3},
                                                  {"cudaStreamWaitEvent", 2},
                                                  {"cudaSetDevice", 1},
                                                  {"cudaEventSynchronize", 1}});
  }
}

TEST_CASE("engine: states may wait while the engine goes on", "[engine]") {
  const Model model = parse_arch(kSmallArch);
  const StripeData data(64);
  std::unique_ptr<Engine> engine;
  const auto train = [&](auto&& after_epoch) {
    engine = make_engine(model, {.batch_size = 8, .seed = 1});
    engine->initialize();
    engine->set_training_set(data.samples());
    for (unsigned epoch = 0; epoch < 3; ++epoch) {
      engine->train_epoch(shuffled(64, epoch), 0, {}, nullptr);
      after_epoch();
    }
  };
  std::vector<OptimizerState> states;
  train([&] { states.push_back(engine->save()); });
  std::vector<std::unique_ptr<SavedState>> waiting;
  train([&] { waiting.push_back(engine->begin_save()); });
  const int allocations = simt::live_allocations();
  for (size_t i = waiting.size(); i-- > 0;) {
    OptimizerState state;
    std::thread([&] { waiting[i]->get(state); }).join();
    CHECK(state.iteration == 8 * int64_t(i + 1));
    CHECK(same_bits(state, states[i]));
    waiting[i].reset();
  }
  engine->begin_save();  // their memory is used again
  CHECK(simt::live_allocations() == allocations);
}

TEST_CASE("engine: the profiler is on for the steps asked for", "[engine]") {
  const Model model = parse_arch(kSmallArch);
  const StripeData data(160);
  const auto order = shuffled(160, 0);
  const struct {
    int begin, end, epochs, switches;
  } cases[] = {
      {3, 5, 1, 2},   {0, 1, 1, 2},  {0, 10, 2, 2},  // up to the end of an epoch
      {10, 11, 2, 2},                                // from the begin of another
      {8, 12, 2, 2},  {9, 40, 1, 1}, {-1, -1, 1, 0},
  };
  for (const bool eager : {false, true}) {
    for (const auto& c : cases) {
      INFO("eager " << eager << ", steps " << c.begin << ":" << c.end);
      auto engine = make_engine(model, {.batch_size = 16,
                                        .seed = 1,
                                        .eager = eager,
                                        .profile_begin = c.begin,
                                        .profile_end = c.end});
      engine->initialize();
      engine->set_training_set(data.samples());
      engine->set_validation_set(data.samples());
      const int switches = simt::profiler_switches;
      std::vector<int64_t> begin_of_epoch;
      int64_t launches = 0;  // in a step
      for (int epoch = 0; epoch < c.epochs; ++epoch) {
        begin_of_epoch.push_back(simt::launches_run());
        engine->train_epoch(order, 0, {}, nullptr);
        launches = (simt::launches_run() - begin_of_epoch.back()) / 10;
        engine->evaluate();
      }
      REQUIRE(launches > 5);
      CHECK((engine->step_nodes() == 0) == eager);
      CHECK(simt::profiler_switches - switches == c.switches);
      // Before the first step of an epoch its batch is gathered; each step gathers the next one.
      const auto launches_before = [&](int epoch, int step) {
        return begin_of_epoch[size_t(epoch)] + 1 + launches * (step - 10 * epoch);
      };
      if (c.switches > 0) CHECK(simt::profiled_from == launches_before(c.begin / 10, c.begin));
      // The end of an epoch, not the begin of the next: validation is not in the range.
      if (c.switches > 1) CHECK(simt::profiled_to == launches_before((c.end - 1) / 10, c.end));
    }
  }
}

TEMPLATE_TEST_CASE("engine: every failing allocation is reported, and nothing leaks", "[engine]",
                   Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const StripeData data(TestType::size(64, 2));
  const int before = simt::live_allocations();
  int failures = 0;
  for (int nth = 1;; ++nth) {
    simt::fail_allocation(nth);
    try {
      train(model, {.math = TestType::kMath, .batch_size = 32}, data, 1);
      simt::fail_allocation(0);
      break;
    } catch (const std::exception& error) {
      ++failures;
      INFO(error.what());
      CHECK(std::string(error.what()).find("memory") != std::string::npos);
      REQUIRE(simt::live_allocations() == before);
    }
  }
  CHECK(failures > 10);
  CHECK(simt::live_allocations() == before);
}
#endif

TEMPLATE_TEST_CASE("engine: stopping in mid-epoch and going on gives the same bits", "[engine]",
                   Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const int samples = TestType::size(1000, 125);
  const StripeData data(samples);
  const EngineConfig config{
      .math = TestType::kMath, .batch_size = TestType::size(16, 2), .seed = 4};
  const Run whole = train(model, config, data, 2);

  auto engine = make_engine(model, config);
  engine->initialize();
  engine->set_training_set(data.samples());
  int calls = 0;
  const Metrics part =
      engine->train_epoch(shuffled(samples, 0), 0, {}, [&](const Metrics&) { return ++calls < 3; });
  REQUIRE(part.batches > 0);
  REQUIRE(part.batches < 63);
  const OptimizerState saved = engine->save();
  CHECK(saved.iteration == part.batches);

  for (const bool resident : {false, true}) {
    EngineConfig other = config;
    other.resident = resident;
    auto resumed = make_engine(model, other);
    resumed->load(saved);
    resumed->set_training_set(data.samples());
    const Metrics rest = resumed->train_epoch(shuffled(samples, 0), part.batches, part, nullptr);
    CHECK(rest.batches == 63);
    CHECK(rest.samples == samples);
    CHECK(rest.loss_sum == whole.epochs[0].loss_sum);
    CHECK(rest.correct == whole.epochs[0].correct);
    resumed->train_epoch(shuffled(samples, 1), 0, {}, nullptr);
    CHECK(same_bits(resumed->save(), whole.state));
  }
}

// The README lists them.
TEMPLATE_TEST_CASE("engine: a step of the default model has 16 nodes, and 5 in FP16", "[engine]",
                   Fp32, Fp16) {
  const Model model = parse_arch(kDefaultArch);
  const StripeData data(8);
  auto engine = make_engine(model, {.math = TestType::kMath, .batch_size = 4});
  engine->initialize();
  engine->set_training_set(data.samples());
  CHECK(engine->step_nodes() == 0);
  engine->train_epoch(shuffled(8, 0), 0, {}, nullptr);
  CHECK(engine->step_nodes() == size_t(TestType::size(16, 5)));
}

TEMPLATE_TEST_CASE("engine: progress sees growing sums", "[engine]", Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const int batch_size = TestType::size(8, 1), samples = 80 * batch_size;
  const StripeData data(samples);
  auto engine = make_engine(model, {.math = TestType::kMath, .batch_size = batch_size});
  engine->initialize();
  engine->set_training_set(data.samples());
  std::vector<Metrics> seen;
  const Metrics end = engine->train_epoch(shuffled(samples, 0), 0, {}, [&](const Metrics& m) {
    seen.push_back(m);
    return true;
  });
  REQUIRE(seen.size() >= 5);
  for (size_t i = 1; i < seen.size(); ++i) {
    CHECK(seen[i].batches > seen[i - 1].batches);
    CHECK(seen[i].samples == seen[i].batches * batch_size);
  }
  CHECK(seen.back().loss_sum == end.loss_sum);
}

TEMPLATE_TEST_CASE("engine: rows after a short batch leave no trace", "[engine]", Fp32, Fp16) {
  // 40 samples in batches of 32: the 24 idle rows of the second batch hold older samples' bytes.
  const bool fp16 = TestType::kMath == Math::kFp16;
  const Model model = parse_arch(fp16 ? kDefaultArch : "conv:3x3,pool:2,flatten,dense:10");
  const StripeData data(40);
  const auto order = shuffled(40, 0);
  auto engine = make_engine(model, {.math = TestType::kMath, .batch_size = 32, .seed = 2});
  engine->initialize();
  engine->set_training_set(data.samples());
  engine->train_epoch(order, 0, {}, nullptr);
  const OptimizerState both = engine->save();

  // The same second update from an engine whose batch is exactly the 8 rows.
  StripeData tail(0);
  for (int i = 32; i < 40; ++i) {
    const auto source = size_t(order[size_t(i)]);
    tail.labels.push_back(data.labels[source]);
    tail.images.insert(tail.images.end(), &data.images[source * kPixels],
                       &data.images[source * kPixels] + kPixels);
  }
  auto first = make_engine(model, {.math = TestType::kMath, .batch_size = 32, .seed = 2});
  first->initialize();
  first->set_training_set(data.samples());
  int calls = 0;
  // Train the first batch alone by cutting the set down to its rows.
  StripeData head(0);
  for (int i = 0; i < 32; ++i) {
    const auto source = size_t(order[size_t(i)]);
    head.labels.push_back(data.labels[source]);
    head.images.insert(head.images.end(), &data.images[source * kPixels],
                       &data.images[source * kPixels] + kPixels);
  }
  std::vector<int32_t> identity(32);
  std::iota(identity.begin(), identity.end(), 0);
  first->set_training_set(head.samples());
  first->train_epoch(identity, 0, {}, [&](const Metrics&) { return ++calls > 0; });
  const OptimizerState after_first = first->save();
  auto second = make_engine(model, {.math = TestType::kMath, .batch_size = 8, .seed = 2});
  second->load(after_first);
  second->set_training_set(tail.samples());
  identity.resize(8);
  second->train_epoch(identity, 0, {}, nullptr);
  const OptimizerState split = second->save();

  REQUIRE(split.iteration == both.iteration);
  for (size_t i = 0; i < both.weights.size(); ++i) {
    INFO("weight " << i);
    REQUIRE(std::abs(both.weights[i] - split.weights[i]) <=
            1e-5f + 1e-5f * std::abs(split.weights[i]));
  }
}

// Pooling drops the last row and column of the default model's second convolution, and with them
// all that only they see: of the image, rows and columns 26 and 27.
TEMPLATE_TEST_CASE("engine: pixels in the dead border change no bit", "[engine]", Fp32, Fp16) {
  const Model model = parse_arch(kDefaultArch);
  const StripeData data(40);
  StripeData framed = data;
  std::mt19937 random(7);
  for (size_t i = 0; i < framed.images.size(); ++i) {
    const size_t row = i / 28 % 28, column = i % 28;
    if (row >= 26 || column >= 26) framed.images[i] = uint8_t(random());
  }
  const auto run = [&](const StripeData& samples) {
    auto engine = make_engine(model, {.math = TestType::kMath, .batch_size = 16, .seed = 6});
    engine->initialize();
    engine->set_training_set(samples.samples());
    engine->set_validation_set(samples.samples());
    const Metrics epoch = engine->train_epoch(shuffled(40, 0), 0, {}, nullptr);
    return std::tuple(engine->save(), engine->predict(samples.images.data(), 40), epoch.loss_sum,
                      engine->evaluate().loss_sum);
  };
  const auto [state, probabilities, loss, validation_loss] = run(data);
  const auto [framed_state, framed_probabilities, framed_loss, framed_validation_loss] =
      run(framed);
  CHECK(same_bits(state, framed_state));
  CHECK(state.iteration == 3);
  CHECK(probabilities.size() == 400);
  CHECK(probabilities == framed_probabilities);
  CHECK(loss == framed_loss);
  CHECK(validation_loss == framed_validation_loss);

  // The same in row 25 does change the run, or this test says nothing.
  StripeData marked = data;
  for (size_t i = 0; i < 40; ++i) marked.images[i * kPixels + 25 * 28 + 25] = 255;
  CHECK(!same_bits(state, std::get<0>(run(marked))));
}

TEMPLATE_TEST_CASE("engine: a diverging run names the batch", "[engine]", Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const int samples = TestType::size(400, 96);
  const StripeData data(samples);
  auto engine =
      make_engine(model, {.math = TestType::kMath, .batch_size = 16, .learning_rate = 3e38f});
  engine->initialize();
  engine->set_training_set(data.samples());
  const Metrics end = engine->train_epoch(shuffled(samples, 0), 0, {}, nullptr);
  CHECK(end.first_nonfinite >= 2);
  CHECK(end.first_nonfinite <= 4);
}

TEMPLATE_TEST_CASE("engine: predictions are probabilities and agree with evaluation", "[engine]",
                   Fp32, Fp16) {
  const Model model = parse_arch(TestType::kArch);
  const int count = TestType::size(1500, 1030);  // more than one batch of validation
  const StripeData data(count);
  auto engine =
      make_engine(model, {.math = TestType::kMath, .batch_size = 32, .learning_rate = 0.01f});
  engine->initialize();
  const int trained = TestType::size(1500, 96);
  engine->set_training_set({data.images.data(), data.labels.data(), trained});
  engine->set_validation_set(data.samples());
  engine->train_epoch(shuffled(trained, 0), 0, {}, nullptr);
  const Metrics validation = engine->evaluate();
  const auto probabilities = engine->predict(data.images.data(), count);
  REQUIRE(probabilities.size() == size_t(count) * 10);
  int64_t correct = 0;
  double loss = 0;
  for (size_t i = 0; i < size_t(count); ++i) {
    const float* p = &probabilities[i * 10];
    double sum = 0;
    for (int k = 0; k < 10; ++k) {
      REQUIRE(p[k] >= 0);
      sum += p[k];
    }
    REQUIRE(std::abs(sum - 1) <= 1e-5);
    correct += std::max_element(p, p + 10) - p == data.labels[i];
    loss -= std::log(double(p[data.labels[i]]));
  }
  CHECK(validation.samples == count);
  CHECK(validation.correct == correct);
  CHECK(std::abs(validation.loss_sum - loss) <= 1e-4 * loss);
  // One image alone gives the same bits as in a batch.
  const auto alone = engine->predict(&data.images[700 * kPixels], 1);
  CHECK(std::equal(alone.begin(), alone.end(), &probabilities[7000]));
}

}  // namespace mnist::MNIST_TARGET
