// Spreads the blocks of a launch over OS threads: a pool that sleeps between launches, and a shared
// counter from which each thread takes the next block.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/simt/cuda_profiler_api.h"
#include "kernels/simt/scheduler.h"

namespace simt {

namespace {

Schedule current;
uint64_t random_state = 0;  // of random_below()
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
    return uint64_t(static_cast<unsigned __int128>(i) * multiplier % count + shift) % count;
  }
};

// Why not OpenMP: GCC's ends the process where it cannot create a thread, spins while it waits (on
// a busy machine an epoch took twice the processor time), and is opaque to ThreadSanitizer.
class Pool {
 public:
  ~Pool() { stop(); }

  // Runs all blocks on the caller's thread and at most `threads` - 1 others: as many as can be
  // created. Throws what a block threw; then some blocks may not have run.
  void run(const Launch& launch, int threads) {
    if (threads_ != threads) {
      stop();
      start(threads);
    }
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    next_block_ = 0;
    if (workers_.empty() || blocks == 1) {
      work(launch, blocks);
    } else {
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
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void start(int threads) {
    threads_ = threads;
    quit_ = false;
    try {
      while (int(workers_.size()) < threads - 1)
        workers_.emplace_back([this, seen = round_] { serve(seen); });
    } catch (const std::exception&) {
      // The system has no more threads, or no memory for their stacks: fewer do the same work.
    }
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

  // Takes blocks until there is none left, or one throws.
  void work(const Launch& launch, uint64_t blocks) {
    try {
      const BlockOrder order(blocks, current);
      const uint64_t x = launch.grid.x, y = launch.grid.y;
      for (uint64_t i; (i = next_block_.fetch_add(1, std::memory_order_relaxed)) < blocks;) {
        const uint64_t block = order(i);
        run_block(launch, {unsigned(block % x), unsigned(block / x % y), unsigned(block / (x * y))},
                  current);
      }
    } catch (...) {
      next_block_ = blocks;  // nobody needs to go on
      std::lock_guard lock(mutex_);
      error_ = std::current_exception();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  int threads_ = 1;  // asked for
  const Launch* launch_ = nullptr;
  uint64_t blocks_ = 0;
  uint64_t round_ = 0;
  int busy_ = 0;
  bool quit_ = false;
  std::exception_ptr error_;
  std::atomic<uint64_t> next_block_{0};
};

}  // namespace

void set_thread_order(ThreadOrder order, uint64_t seed) {
  current = {order, seed};
  random_state = seed;
}

const Schedule& schedule() {
  return current;
}

size_t random_below(size_t bound) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
  return size_t(random_state >> 33) % bound;
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
  pool.run(launch, launch.early != nullptr ? 1 : os_threads());
}

}  // namespace simt
