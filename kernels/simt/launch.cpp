// Spreads the blocks of a launch over OS threads: a pool that sleeps between launches, and a shared
// counter from which each thread takes the next block.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/simt/cuda_profiler_api.h"
#include "kernels/simt/scheduler.h"

namespace simt {

namespace {

Schedule schedule;
std::atomic<int64_t> launches = 0;
int wanted_threads = 0;

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

// A bijection of 0..count-1, so that shuffled blocks need no table: i -> (i * odd + shift) mod
// count with a multiplier prime to count.
struct BlockOrder {
  uint64_t count, multiplier = 1, shift = 0;

  BlockOrder(uint64_t n, const Schedule& how) : count(n) {
    if (how.order == ThreadOrder::kDescending) {
      multiplier = n - 1 == 0 ? 1 : n - 1;  // -1 mod n
      shift = n - 1;
    } else if (how.order == ThreadOrder::kShuffled) {
      multiplier = (how.seed * 0x9E3779B9u + 0x7F4A7C15u) % n;
      while (std::gcd(multiplier, n) != 1) ++multiplier;
      shift = how.seed % n;
    }
  }
  uint64_t operator()(uint64_t i) const {
    return uint64_t((unsigned __int128)(i)*multiplier % count + shift) % count;
  }
};

class Pool {
 public:
  ~Pool() { stop(); }

  void run(const Launch& launch, int threads) {
    if (int(workers_.size()) != threads - 1) {
      stop();
      start(threads - 1);
    }
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    next_block_ = 0;
    if (workers_.empty() || blocks == 1) {
      work(launch, blocks);
      return;
    }
    {
      std::lock_guard lock(mutex_);
      launch_ = &launch;
      blocks_ = blocks;
      busy_ = int(workers_.size());
      ++round_;
    }
    wake_.notify_all();
    work(launch, blocks);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return busy_ == 0; });
  }

 private:
  void start(int count) {
    quit_ = false;
    for (int i = 0; i < count; ++i) workers_.emplace_back([this, seen = round_] { serve(seen); });
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      quit_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

  void serve(uint64_t seen) {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return quit_ || round_ != seen; });
      if (quit_) return;
      seen = round_;
      const Launch& launch = *launch_;
      const uint64_t blocks = blocks_;
      lock.unlock();
      work(launch, blocks);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void work(const Launch& launch, uint64_t blocks) {
    const BlockOrder order(blocks, schedule);
    for (;;) {
      const uint64_t i = next_block_.fetch_add(1, std::memory_order_relaxed);
      if (i >= blocks) return;
      const uint64_t block = order(i);
      const uint64_t x = launch.grid.x, y = launch.grid.y;
      run_block(launch, {unsigned(block % x), unsigned(block / x % y), unsigned(block / (x * y))},
                schedule);
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const Launch* launch_ = nullptr;
  uint64_t blocks_ = 0;
  uint64_t round_ = 0;
  int busy_ = 0;
  bool quit_ = false;
  std::atomic<uint64_t> next_block_{0};
};

}  // namespace

void set_thread_order(ThreadOrder order, uint64_t seed) {
  schedule = {order, seed};
}

void set_os_threads(int count) {
  wanted_threads = count;
}

int os_threads() {
  return wanted_threads > 0 ? wanted_threads : available_cores();
}

int64_t launches_run() {
  return launches;
}

void run_grid(const Launch& launch) {
  ++launches;
  // Owned by the first launch's thread of execution, and gone before static destructors of others
  // could need it: launches happen under the runtime's lock.
  static Pool pool;
  pool.run(launch, os_threads());
}

}  // namespace simt
