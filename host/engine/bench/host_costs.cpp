#include "host/engine/bench/host_costs.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <thread>

#include "host/data/epoch_order.h"
#include "host/engine/target_engine.h"
#include "kernels/shapes.h"

namespace mnist::cpu {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// While it lives, the device does nothing.
class IdleDevice {
 public:
  IdleDevice() { simt::skip_device_work(true); }
  ~IdleDevice() { simt::skip_device_work(false); }
  IdleDevice(const IdleDevice&) = delete;
  IdleDevice& operator=(const IdleDevice&) = delete;
};

// What one epoch took; of several, the least.
struct Epoch {
  double seconds = std::numeric_limits<double>::infinity();
  double read_back = std::numeric_limits<double>::infinity();
  std::map<std::string, int64_t> calls;
  int64_t nodes = 0;
};

Epoch measure(Engine& engine, const Samples& samples, int repeats) {
  engine.set_training_set(samples);
  EpochOrders orders(samples.count, 1, true);
  OptimizerState state;
  Epoch least;
  for (int64_t number = -2; number < repeats; ++number) {  // two to record the graphs
    // A device at work would give the next order its time.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const auto calls = simt::calls();
    const int64_t nodes = simt::graph_nodes_launched();
    const Clock::time_point begin = Clock::now();
    engine.train_epoch(orders.get(number + 2), 0, {}, [](const Metrics&) { return true; });
    engine.evaluate();
    const auto saved = engine.begin_save();
    const double seconds = since(begin);
    const auto calls_after = simt::calls();
    const Clock::time_point read_back = Clock::now();
    saved->get(state);
    if (number < 0) continue;
    least.seconds = std::min(least.seconds, seconds);
    least.read_back = std::min(least.read_back, since(read_back));
    least.nodes = simt::graph_nodes_launched() - nodes;
    for (const auto& [name, count] : calls_after) {
      const auto before = calls.find(name);
      least.calls[name] = count - (before == calls.end() ? 0 : before->second);
    }
  }
  return least;
}

}  // namespace

HostCosts host_costs(const Model& model, const Samples& training, const Samples& validation,
                     int batch_size, Math math, int repeats) {
  const IdleDevice idle;
  const auto engine = make_engine(model, {.math = math, .batch_size = batch_size, .seed = 1});
  engine->initialize();
  engine->set_validation_set(validation);

  // The epoch, and one without its whole rounds: the difference is theirs.
  const int64_t round = int64_t{kReportBatches} * batch_size;
  Samples rest = training;
  rest.count = training.count % round;
  if (rest.count == 0) rest.count = round;
  const Epoch all = measure(*engine, training, repeats);
  const Epoch few = measure(*engine, rest, repeats);
  const int64_t steps = (training.count - rest.count) / batch_size;
  const int64_t steps_left = (rest.count + batch_size - 1) / batch_size;

  // Splits what an epoch took into steps and the remainder.
  const auto split = [&](double epoch, double short_epoch, double& per_step, double& per_epoch) {
    per_step = (epoch - short_epoch) / double(steps);
    // At least zero: an epoch's first rounds wait for none before them.
    per_epoch = std::max(0.0, short_epoch - double(steps_left) * per_step);
  };
  HostCosts costs;
  split(all.seconds, few.seconds, costs.seconds_per_step, costs.seconds_per_epoch);
  split(double(all.nodes), double(few.nodes), costs.nodes_per_step, costs.nodes_per_epoch);
  for (const auto& [name, count] : all.calls) {
    const auto found = few.calls.find(name);
    const double short_count = found == few.calls.end() ? 0 : double(found->second);
    if (count == 0 && short_count == 0) continue;
    HostCosts::Calls& calls = costs.calls.emplace_back(HostCosts::Calls{.function = name});
    split(double(count), short_count, calls.per_step, calls.per_epoch);
  }
  costs.read_back_seconds = all.read_back;
  std::vector<int32_t> order;
  costs.order_seconds = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) {
    const Clock::time_point begin = Clock::now();
    make_epoch_order(order, training.count, 1, i, true);
    costs.order_seconds = std::min(costs.order_seconds, since(begin));
  }
  return costs;
}

}  // namespace mnist::cpu
