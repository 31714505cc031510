#include "host/cli/commands/bench_host.h"

#include <fmt/format.h>

#include "host/cli/setup.h"

namespace mnist::cli {
namespace {

// What a call takes on the thread that makes it, in us. A graph: NVIDIA's "constant time launch for
// straight-line CUDA graphs" (Ampere, CUDA 12.6). Any other call: a launch into a stream, the
// dearest of them (measured on sm_120 by revollllt/flash-vla).
constexpr double kGraphPrice = 2.5, kNodePrice = 0.001, kCallPrice = 2.05;

struct Priced {
  double per_step = 0, per_epoch = 0;  // us
};

Priced at_prices(const HostCosts& costs) {
  Priced sum{.per_step = costs.nodes_per_step * kNodePrice,
             .per_epoch = costs.nodes_per_epoch * kNodePrice};
  for (const HostCosts::Calls& calls : costs.calls) {
    const double price = calls.function == "cudaGraphLaunch" ? kGraphPrice : kCallPrice;
    sum.per_step += calls.per_step * price;
    sum.per_epoch += calls.per_epoch * price;
  }
  return sum;
}

std::string text(const HostCosts& costs) {
  const Priced priced = at_prices(costs);
  std::string text = fmt::format(
      "The default model, 60,000 images in steps of {}, 10,000 for validation. Kernels and copies\n"
      "are counted, not run. Prices: {} us for a graph and {} for each node in it (NVIDIA's blog "
      "on\n"
      "constant time launch, Ampere, CUDA 12.6), {} us for any other call (a launch into a "
      "stream,\n"
      "flash-vla on sm_120).\n\n",
      kStepBatch, kGraphPrice, kNodePrice, kCallPrice);
  const auto row = [&](const std::string& name, double per_step, double per_epoch) {
    text += fmt::format("{:<28}{:>12.3f}{:>14.3f}\n", name, per_step, per_epoch);
  };
  text += fmt::format("{:<28}{:>12}{:>14}\n", "the launching thread", "us a step", "ms an epoch");
  row("our own code", costs.seconds_per_step * 1e6, costs.seconds_per_epoch * 1e3);
  row("calls at these prices", priced.per_step, priced.per_epoch * 1e-3);
  text += fmt::format("\n{:<28}{:>12}{:>14}\n", "calls", "a step", "an epoch");
  for (const HostCosts::Calls& calls : costs.calls)
    row(calls.function, calls.per_step, calls.per_epoch);
  row("nodes of graphs", costs.nodes_per_step, costs.nodes_per_epoch);
  text += fmt::format("\n{:<40}{:>14}\n", "on threads beside it", "ms an epoch");
  text += fmt::format("{:<40}{:>14.3f}\n", "the next epoch's order", costs.order_seconds * 1e3);
  text += fmt::format("{:<40}{:>14.3f}\n", "copy of the state for the file",
                      costs.read_back_seconds * 1e3);
  return text;
}

Json json(const HostCosts& costs, Math math) {
  const Priced priced = at_prices(costs);
  Json calls = Json::object();
  for (const HostCosts::Calls& c : costs.calls)
    calls[c.function] = {{"per_step", c.per_step}, {"per_epoch", c.per_epoch}};
  Json result{{"own_us_per_step", costs.seconds_per_step * 1e6},
              {"own_ms_per_epoch", costs.seconds_per_epoch * 1e3},
              {"calls_us_per_step", priced.per_step},
              {"calls_ms_per_epoch", priced.per_epoch * 1e-3},
              {"calls", calls},
              {"nodes_per_step", costs.nodes_per_step},
              {"nodes_per_epoch", costs.nodes_per_epoch},
              {"order_ms", costs.order_seconds * 1e3},
              {"read_back_ms", costs.read_back_seconds * 1e3}};
  if (math != Math::kFp32) result["math"] = name_of(math);
  return result;
}

}  // namespace

void host_timings(const BenchOptions& options, Results& results) {
  const HostCosts costs = host_costs(options.math, options.repeats);
  if (options.json)
    results.json(json(costs, options.math));
  else
    results.text(text(costs));
}

}  // namespace mnist::cli
