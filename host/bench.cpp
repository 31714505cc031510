#include "host/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "host/engine/factory.h"
#include "host/error.h"
#include "host/permutation.h"
#include "host/synthetic.h"

namespace mnist {
namespace {

constexpr int kBatch = 128;

// Floating-point operations of a layer's forward pass on one sample.
double forward_flops(const Layer& layer) {
  const auto outputs = double(layer.output.size());
  switch (layer.kind) {
    case LayerKind::kConv2D:
      return 2 * outputs * layer.window_h * layer.window_w * layer.input.c;
    case LayerKind::kDense:
      return 2 * outputs * double(layer.input.size());
    default:
      return 0;
  }
}

}  // namespace

std::unique_ptr<KernelBench> make_kernel_bench(Target target, bool plain, int threads) {
  const std::string reason = unusable_reason(target);
  if (!reason.empty()) throw Error(ExitCode::kUnavailable, reason);
#ifdef MNIST_HAVE_CUDA
  if (target == Target::kCuda) return cuda::make_kernel_bench(plain, threads);
#endif
  return cpu::make_kernel_bench(plain, threads);
}

BenchRow step_row() {
  const Model model = parse_arch(kDefaultArch);
  double flops = 0;
  bool first = true;  // its input needs no gradient
  for (const Layer& layer : model.layers) {
    const double forward = kBatch * forward_flops(layer);
    if (forward == 0) continue;
    flops += (first ? 2 : 3) * forward;
    first = false;
  }
  const Extent& x = model.input;
  return {.name = "step",
          .shape = fmt::format("{}x{}x{}x{}", kBatch, x.h, x.w, x.c),
          .backend = "native",
          .flops = flops};
}

BenchTimes time_step(Target target, int repeats, int threads) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  // Long enough that what happens once an epoch does not count.
  constexpr Seconds kLeast{0.02};
  constexpr int kMostSteps = 512;

  const Model model = parse_arch(kDefaultArch);
  const ImageSet digits = synthetic_digits(10 * kBatch, 1);
  ImageSet set;
  const auto engine =
      make_engine(target, model,
                  {.batch_size = kBatch, .learning_rate = 0.001f, .seed = 1, .threads = threads});
  engine->initialize();

  BenchTimes times;
  const auto epoch = [&](int64_t number) {
    const std::vector<int32_t> order = epoch_order(set.count, 1, number, true);
    const Clock::time_point begin = Clock::now();
    engine->train_epoch(order, 0, {}, nullptr);
    return Seconds(Clock::now() - begin) / times.launches;
  };
  for (times.launches = 1;; times.launches *= 2) {
    while (set.count < int64_t(times.launches) * kBatch) {
      const int64_t more = std::min(times.launches * kBatch - set.count, digits.count);
      set.images.insert(set.images.end(), digits.images.begin(),
                        digits.images.begin() + more * model.input.size());
      set.labels.insert(set.labels.end(), digits.labels.begin(), digits.labels.begin() + more);
      set.count += more;
    }
    engine->set_training_set(
        {.images = set.images.data(), .labels = set.labels.data(), .count = set.count});
    epoch(0);
    if (times.launches >= kMostSteps || epoch(0) * times.launches >= kLeast) break;
  }
  for (int repeat = 0; repeat < repeats; ++repeat) times.seconds.push_back(epoch(repeat).count());
  return times;
}

}  // namespace mnist
