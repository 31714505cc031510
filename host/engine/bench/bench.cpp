#include "host/engine/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "host/data/epoch_order.h"
#include "host/data/synthetic.h"
#include "host/engine/bench/host_costs.h"
#include "host/engine/target_api.h"

namespace mnist {
namespace {

constexpr int kEpochImages = 60'000, kValidationImages = 10'000;

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

std::string backend_name(BackendKind backend) {
  return backend == BackendKind::kCudnn ? "cudnn" : "native";
}

// Few digits, again and again: what they show does not matter.
ImageSet repeated_digits(int64_t count) {
  static const ImageSet digits = synthetic_digits(10 * kStepBatch, 1);
  ImageSet set;
  for (set.count = 0; set.count < count;) {
    const int64_t more = std::min(count - set.count, digits.count);
    set.images.insert(set.images.end(), digits.images.begin(),
                      digits.images.begin() + more * digits.height * digits.width);
    set.labels.insert(set.labels.end(), digits.labels.begin(), digits.labels.begin() + more);
    set.count += more;
  }
  return set;
}

std::unique_ptr<Engine> default_engine(Target target, BackendKind backend, Math math, int threads) {
  auto engine = make_engine(target, parse_arch(kDefaultArch),
                            {.backend = backend,
                             .math = math,
                             .batch_size = kStepBatch,
                             .learning_rate = 0.001f,
                             .seed = 1,
                             .threads = threads});
  engine->initialize();
  return engine;
}

}  // namespace

std::unique_ptr<KernelBench> make_kernel_bench(Target target, bool naive, int threads, Math math) {
  return usable_target(target).make_kernel_bench(naive, threads, math);
}

std::unique_ptr<KernelBench> make_comparison_bench(Target target, bool with_cudnn, int threads,
                                                   Math math) {
  return usable_target(target).make_comparison_bench(with_cudnn, threads, math);
}

BenchRow step_row(BackendKind backend, Math math) {
  const Model model = parse_arch(kDefaultArch);
  double flops = 0;
  bool first = true;  // its input needs no gradient
  for (const Layer& layer : model.layers) {
    const double forward = kStepBatch * forward_flops(layer);
    if (forward == 0) continue;
    flops += (first ? 2 : 3) * forward;
    first = false;
  }
  const Extent& x = model.input;
  return {.name = "step",
          .shape = fmt::format("{}x{}x{}x{}", kStepBatch, x.h, x.w, x.c),
          .backend = backend_name(backend),
          .flops = flops,
          .math = math};
}

BenchTimes time_step(Target target, BackendKind backend, Math math, int repeats, int threads) {
  // Long enough that what happens once an epoch does not count.
  constexpr Seconds kLeast{0.02};
  constexpr int kMostSteps = 512;

  const auto engine = default_engine(target, backend, math, threads);
  ImageSet set;
  BenchTimes times;
  const auto epoch = [&](int64_t number) {
    const std::vector<int32_t> order = epoch_order(set.count, 1, number, true);
    const Clock::time_point begin = Clock::now();
    engine->train_epoch(order, 0, {}, nullptr);
    return Seconds(Clock::now() - begin) / times.launches;
  };
  for (times.launches = 1;; times.launches *= 2) {
    set = repeated_digits(int64_t(times.launches) * kStepBatch);
    engine->set_training_set(set.samples());
    epoch(0);
    if (times.launches >= kMostSteps || epoch(0) * times.launches >= kLeast) break;
  }
  for (int repeat = 0; repeat < repeats; ++repeat) times.seconds.push_back(epoch(repeat).count());
  return times;
}

BenchRow epoch_row(BackendKind backend, Math math) {
  const Extent& x = kMnistExtent;
  return {.name = "epoch",
          .shape = fmt::format("{}x{}x{}x{}", kEpochImages, x.h, x.w, x.c),
          .backend = backend_name(backend),
          .math = math};
}

BenchTimes time_epoch(Target target, BackendKind backend, Math math, int repeats, int threads) {
  constexpr Seconds kMost{10};
  const ImageSet training = repeated_digits(kEpochImages);
  const ImageSet validation = repeated_digits(kValidationImages);
  const auto engine = default_engine(target, backend, math, threads);
  engine->set_training_set(training.samples());
  engine->set_validation_set(validation.samples());

  const auto run = [&](int64_t number, const Engine::Progress& progress) {
    const std::vector<int32_t> order = epoch_order(training.count, 1, number, true);
    const Clock::time_point begin = Clock::now();
    engine->train_epoch(order, 0, {}, progress);
    engine->evaluate();
    return Seconds(Clock::now() - begin);
  };
  run(0, [](const Metrics&) { return false; });  // the first steps alone
  BenchTimes times{.bytes = 0, .launches = 1, .seconds = {}, .cold_seconds = {}};
  Seconds total{0};
  do {
    total +=
        Seconds(times.seconds.emplace_back(run(int64_t(times.seconds.size()), nullptr).count()));
  } while (int(times.seconds.size()) < repeats && total < kMost);
  return times;
}

HostCosts host_costs(Math math, int repeats) {
  const ImageSet training = repeated_digits(kEpochImages);
  const ImageSet validation = repeated_digits(kValidationImages);
  return cpu::host_costs(parse_arch(kDefaultArch), training.samples(), validation.samples(),
                         kStepBatch, math, repeats);
}

}  // namespace mnist
