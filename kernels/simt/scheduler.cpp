// A CUDA thread that never waits costs a function call: one fiber runs thread after thread until a
// thread has to wait; only then does the next thread get a fiber of its own. A barrier is a counter
// of arrivals: the last thread to arrive refills the run queue.

#include "kernels/simt/scheduler.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/simt/device.h"
#include "kernels/simt/early.h"
#include "kernels/simt/fiber.h"

// Address space in every OS thread, but memory only in those whose kernels touch it.
alignas(128) constinit thread_local unsigned char dynamic_smem[simt::kMaxDynamicBytes];

namespace simt {

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};

namespace {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr int kNobody = -1;

// Threads of a warp that meet in a collective; there is one for every mask that a warp uses.
struct Meeting {
  unsigned mask = 0;
  unsigned arrived = 0;
  unsigned round = 0;  // completed collectives; its parity picks the buffer
  Collective kind{};
  WarpWork work = nullptr;
  // Two buffers: a fast lane may deposit its next value while a slow one still reads the last.
  uint64_t values[2][kWarp];
};

enum class State : unsigned char { kNotStarted, kReady, kAtBarrier, kInCollective, kFinished };

struct Thread {
  State state = State::kNotStarted;
  Fiber* fiber = nullptr;  // where it waits
  Site site{};             // what it waits at
  unsigned mask = 0;
  bool has_waited = false;  // for the predecessor
};

// A thread's copies to shared memory that it has not waited for.
struct Copies {
  struct Copy {
    void* to;
    const void* from;
  };
  std::vector<Copy> copies;
  std::vector<size_t> group_ends;  // of the groups: how many of the copies are in them or before

  // Lets the first `count` copies arrive.
  void arrive(size_t count) {
    for (size_t i = 0; i < count; ++i) std::memmove(copies[i].to, copies[i].from, 16);
  }
};

// Small generator for shuffled schedules (SplitMix64, Steele, Lea, Flood 2014).
uint64_t mix(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

class BlockRunner {
 public:
  void run(const Launch& launch, uint3 block, const Schedule& schedule);

  // The last thread to arrive calls `then`.
  template <typename F>
  void barrier(Site site, const F& then);
  const uint64_t* collective(Collective kind, unsigned mask, uint64_t value, Site site,
                             WarpWork work = nullptr);
  void check_shared(const void* p, Site site);
  void copy_async(void* shared, const void* global, Site site);
  void commit_copies();
  void await_copies(int later_groups);
  void await_predecessor(Site site);
  void allow_dependents(Site site);
  unsigned lane() const { return unsigned(current_) % kWarp; }
  [[noreturn]] void run_fiber();

 private:
  [[noreturn]] void run_threads();
  void plan();
  void enter(int thread);
  int pop() { return head_ == queue_.size() ? kNobody : queue_[head_++]; }
  void wait(State state, Site site, unsigned mask);
  void check_end();
  Fiber& idle_fiber();
  [[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));
  std::string list(State state) const;

  const Launch* launch_ = nullptr;
  Schedule schedule_;
  uint64_t random_ = 0;
  int thread_count_ = 0;
  int finished_ = 0;
  int at_barrier_ = 0;
  Site barrier_site_{};  // where the first to arrive waits
  int current_ = kNobody;
  Fiber main_;
  Fiber* running_ = nullptr;

  std::vector<int> order_;  // of the threads, between two barriers
  std::vector<int> queue_;  // threads that can run; head_ is the next one
  size_t head_ = 0;
  std::vector<Thread> threads_;
  std::vector<Copies> copies_;                                   // by thread
  std::vector<std::vector<std::unique_ptr<Meeting>>> meetings_;  // by warp
  std::vector<unsigned> gone_;  // by warp: lanes that do not exist, or have returned
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::exception_ptr error_;
};

namespace {

// Of the calling OS thread, while it runs a block. (A BlockRunner itself would be tested at each
// use for whether it is there already.)
constinit thread_local BlockRunner* runner = nullptr;

}  // namespace

void BlockRunner::plan() {
  if (schedule_.order == ThreadOrder::kShuffled)
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[mix(random_) % i]);
  queue_ = order_;
  head_ = 0;
}

void BlockRunner::run(const Launch& launch, uint3 block, const Schedule& schedule) {
  const int count = int(launch.block.x * launch.block.y * launch.block.z);
  launch_ = &launch;
  schedule_ = schedule;
  random_ = schedule.seed ^ (uint64_t(block.z) << 42) ^ (uint64_t(block.y) << 21) ^ block.x;
  thread_count_ = count;
  order_.resize(size_t(count));
  std::iota(order_.begin(), order_.end(), 0);
  if (schedule.order == ThreadOrder::kDescending) std::reverse(order_.begin(), order_.end());
  threads_.assign(size_t(count), Thread{});
  if (copies_.size() < size_t(count)) copies_.resize(size_t(count));
  meetings_.resize(size_t((count + kWarp - 1) / kWarp));
  for (auto& warp : meetings_) warp.clear();
  gone_.assign(meetings_.size(), 0);
  if (count % kWarp != 0) gone_.back() = ~0u << count % kWarp;
  finished_ = 0;
  at_barrier_ = 0;
  blockIdx = block;
  blockDim = launch.block;
  gridDim = launch.grid;
  if (launch.dynamic_bytes > 0) std::memset(dynamic_smem, 0xff, launch.dynamic_bytes);

  if (launch.early != nullptr) launch.early->begin_prologue();

  plan();
  running_ = &main_;
  Fiber& first = idle_fiber();
  current_ = pop();
  running_ = &first;
  Fiber::switch_to(main_, first);
  if (error_) {
    // Threads may wait in mid-kernel: their fibers go with them.
    idle_.clear();
    fibers_.clear();
    copies_.clear();
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
}

Fiber& BlockRunner::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(Fiber::WithStack{}));
    return *fibers_.back();
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return *fiber;
}

void BlockRunner::enter(int thread) {
  current_ = thread;
  const unsigned t = unsigned(thread), x = launch_->block.x, y = launch_->block.y;
  threadIdx = {t % x, t / x % y, t / (x * y)};
}

// Body of every fiber. An exception comes from our own code alone: kernels throw none.
void BlockRunner::run_fiber() {
  try {
    run_threads();
  } catch (...) {
    error_ = std::current_exception();
  }
  Fiber::switch_to(*running_, main_);  // where run() destroys this fiber
  std::abort();
}

// Runs threads that have not started, until there is none.
void BlockRunner::run_threads() {
  for (;;) {
    enter(current_);
    threads_[size_t(current_)].state = State::kReady;
    launch_->thread();
    check_end();
    threads_[size_t(current_)].state = State::kFinished;
    gone_[size_t(current_) / kWarp] |= 1u << lane();
    ++finished_;
    if (at_barrier_ > 0) fail("thread %d returned while others wait at a barrier", current_);
    const int next = pop();
    Fiber* self = running_;
    if (next == kNobody) {
      if (finished_ != thread_count_) fail("deadlock");
      idle_.push_back(self);
      running_ = &main_;
      Fiber::switch_to(*self, main_);
    } else if (threads_[size_t(next)].state == State::kNotStarted) {
      current_ = next;
      continue;
    } else {
      idle_.push_back(self);
      current_ = next;
      running_ = threads_[size_t(next)].fiber;
      Fiber::switch_to(*self, *running_);
    }
    // Taken from the idle list again: current_ is a thread that has not started.
  }
}

// Hands the OS thread to the next thread that can run; returns when this one can.
void BlockRunner::wait(State state, Site site, unsigned mask) {
  const int self = current_;
  const uint3 index = threadIdx;
  Thread& thread = threads_[size_t(self)];
  const int next = pop();
  if (next == self) return;
  thread.fiber = running_;
  thread.site = site;
  thread.mask = mask;
  if (next == kNobody) {
    thread.state = state;
    fail("deadlock");
  }
  Fiber* from = running_;
  Thread& other = threads_[size_t(next)];
  current_ = next;
  running_ = other.state == State::kNotStarted ? &idle_fiber() : other.fiber;
  Fiber::switch_to(*from, *running_);
  current_ = self;
  threadIdx = index;
}

template <typename F>
void BlockRunner::barrier(Site site, const F& then) {
  Thread& thread = threads_[size_t(current_)];
  if (finished_ > 0)
    fail("thread %d waits at the barrier %s:%d, but %d threads have returned", current_, site.file,
         site.line, finished_);
  if (at_barrier_ == 0) barrier_site_ = site;
  if (barrier_site_ != site)
    fail("thread %d waits at the barrier %s:%d, others at %s:%d", current_, site.file, site.line,
         barrier_site_.file, barrier_site_.line);
  thread.state = State::kAtBarrier;
  thread.site = site;
  if (++at_barrier_ == thread_count_) {
    then();
    at_barrier_ = 0;
    for (Thread& other : threads_) other.state = State::kReady;
    plan();
  }
  wait(State::kAtBarrier, site, 0);
}

const uint64_t* BlockRunner::collective(Collective kind, unsigned mask, uint64_t value, Site site,
                                        WarpWork work) {
  const unsigned lane = this->lane(), bit = 1u << lane;
  const int warp = current_ / kWarp, first = warp * kWarp;
  if ((mask & bit) == 0)
    fail("thread %d at %s:%d: its own lane %u is not in the mask %08x", current_, site.file,
         site.line, lane, mask);
  if (const unsigned missing = mask & gone_[size_t(warp)]; missing != 0) {
    const int other = __builtin_ctz(missing);
    fail("thread %d at %s:%d: lane %d of the mask %08x %s", current_, site.file, site.line, other,
         mask, first + other >= thread_count_ ? "does not exist" : "has returned");
  }
  auto& warp_meetings = meetings_[size_t(warp)];
  Meeting* meeting = nullptr;
  for (auto& candidate : warp_meetings)
    if (candidate->mask == mask) meeting = candidate.get();
  if (meeting == nullptr) {
    warp_meetings.push_back(std::make_unique<Meeting>());
    meeting = warp_meetings.back().get();
    meeting->mask = mask;
  }
  if (meeting->arrived == 0) {
    meeting->kind = kind;
    meeting->work = work;
  }
  if (meeting->kind != kind || meeting->work != work)
    fail("thread %d at %s:%d: the other lanes of the mask %08x are in another collective", current_,
         site.file, site.line, mask);
  const uint64_t* values = meeting->values[meeting->round % 2];
  meeting->values[meeting->round % 2][lane] = value;
  meeting->arrived |= bit;
  if (meeting->arrived == mask) {
    if (work != nullptr) work(reinterpret_cast<void* const*>(values));
    meeting->arrived = 0;
    ++meeting->round;
    // The others go on before any thread that has not come so far, in the block's order.
    int released[kWarp], count = 0;
    for (int thread = first; thread < first + kWarp; ++thread)
      if ((mask >> (thread - first) & 1u) && thread != current_) released[count++] = thread;
    if (schedule_.order == ThreadOrder::kDescending) std::reverse(released, released + count);
    for (int i = 0; i < count; ++i) threads_[size_t(released[i])].state = State::kReady;
    if (head_ < size_t(count)) {
      queue_.insert(queue_.begin(), size_t(kMaxThreads), kNobody);
      head_ += kMaxThreads;
    }
    head_ -= size_t(count);
    std::copy(released, released + count, queue_.begin() + std::ptrdiff_t(head_));
    return values;
  }
  threads_[size_t(current_)].state = State::kInCollective;
  wait(State::kInCollective, site, mask);
  return values;
}

void BlockRunner::check_shared(const void* p, Site site) {
  const size_t offset = reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(dynamic_smem);
  if (offset % 16 != 0 || offset > launch_->dynamic_bytes || launch_->dynamic_bytes - offset < 16)
    fail("thread %d at %s:%d: %s", current_, site.file, site.line,
         offset % 16 != 0 ? "an address in shared memory is not aligned to 16 bytes"
                          : "16 bytes are not in the block's dynamic shared memory");
}

// ---- copies to shared memory that go on beside the thread --------------------------------------
// A copy arrives when its thread waits for it, and no earlier: until then its place is poisoned.
void BlockRunner::copy_async(void* shared, const void* global, Site site) {
  check_shared(shared, site);
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0)
    fail("thread %d at %s:%d: the source of a copy is not aligned to 16 bytes", current_, site.file,
         site.line);
  std::memset(shared, 0xff, 16);
  copies_[size_t(current_)].copies.push_back({shared, global});
}

void BlockRunner::commit_copies() {
  Copies& mine = copies_[size_t(current_)];
  mine.group_ends.push_back(mine.copies.size());
}

void BlockRunner::await_copies(int later_groups) {
  Copies& mine = copies_[size_t(current_)];
  std::vector<size_t>& ends = mine.group_ends;
  if (ends.size() <= size_t(later_groups)) return;
  const size_t groups = ends.size() - size_t(later_groups), count = ends[groups - 1];
  mine.arrive(count);
  mine.copies.erase(mine.copies.begin(), mine.copies.begin() + std::ptrdiff_t(count));
  ends.erase(ends.begin(), ends.begin() + std::ptrdiff_t(groups));
  for (size_t& end : ends) end -= count;
}

// ---- kernels that start before their predecessor has ended --------------------------------------
void BlockRunner::await_predecessor(Site site) {
  if (!launch_->dependent || std::exchange(threads_[size_t(current_)].has_waited, true)) return;
  if (launch_->early == nullptr) return;
  // What the copies read may be read from their first moment on.
  Copies& mine = copies_[size_t(current_)];
  mine.arrive(mine.copies.size());
  for (Copies::Copy& copy : mine.copies) copy.from = copy.to;
  barrier(site, [this, site] {
    const std::string fault = launch_->early->end_prologue();
    if (!fault.empty()) fail("before the wait at %s:%d, %s", site.file, site.line, fault.c_str());
  });
}

void BlockRunner::allow_dependents(Site site) {
  if (launch_->dependent && !threads_[size_t(current_)].has_waited)
    fail("thread %d at %s:%d lets the next kernel start before it has waited for the last",
         current_, site.file, site.line);
}

// What a thread must have done when it returns.
void BlockRunner::check_end() {
  if (!copies_[size_t(current_)].copies.empty())
    fail("thread %d returned without having waited for %zu of its copies", current_,
         copies_[size_t(current_)].copies.size());
  copies_[size_t(current_)].group_ends.clear();
  if (launch_->dependent && !threads_[size_t(current_)].has_waited)
    fail("thread %d returned without griddepcontrol_wait()", current_);
}

std::string BlockRunner::list(State state) const {
  std::string text;
  for (int begin = 0; begin < thread_count_; ++begin) {
    const Thread& thread = threads_[size_t(begin)];
    if (thread.state != state) continue;
    int end = begin;
    while (end + 1 < thread_count_ && threads_[size_t(end + 1)].state == state &&
           threads_[size_t(end + 1)].site.line == thread.site.line &&
           threads_[size_t(end + 1)].mask == thread.mask)
      ++end;
    text += begin == end ? " " + std::to_string(begin)
                         : " " + std::to_string(begin) + "-" + std::to_string(end);
    if (state == State::kAtBarrier || state == State::kInCollective)
      text += std::string(" at ") + thread.site.file + ":" + std::to_string(thread.site.line);
    begin = end;
  }
  return text.empty() ? " none" : text;
}

void BlockRunner::fail(const char* format, ...) {
  const std::string name = kernel_name(launch_->function);
  std::fprintf(stderr, "simt: kernel %s, block (%u,%u,%u): ", name.c_str(), blockIdx.x, blockIdx.y,
               blockIdx.z);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr,
               "\nsimt: threads at a barrier:%s\nsimt: threads in a warp collective:%s\n"
               "simt: threads that returned:%s\n",
               list(State::kAtBarrier).c_str(), list(State::kInCollective).c_str(),
               list(State::kFinished).c_str());
  std::abort();
}

void fiber_main() {
  runner->run_fiber();
}
void run_block(const Launch& launch, uint3 block, const Schedule& schedule) {
  thread_local BlockRunner mine;
  runner = &mine;
  mine.run(launch, block, schedule);
}
void block_barrier(Site site) {
  runner->barrier(site, [] {});
}
const uint64_t* warp_collective(Collective kind, unsigned mask, uint64_t value, Site site) {
  return runner->collective(kind, mask, value, site);
}
void warp_together(WarpWork work, void* lane, Site site) {
  runner->collective(Collective::kTogether, 0xffffffffu, reinterpret_cast<uint64_t>(lane), site,
                     work);
}
void check_shared_16(const void* p, Site site) {
  runner->check_shared(p, site);
}
void copy_async_16(void* shared, const void* global, Site site) {
  runner->copy_async(shared, global, site);
}
void commit_copies() {
  runner->commit_copies();
}
void await_copies(int later_groups) {
  runner->await_copies(later_groups);
}
void await_predecessor(Site site) {
  runner->await_predecessor(site);
}
void allow_dependents(Site site) {
  runner->allow_dependents(site);
}
unsigned lane_id() {
  return runner->lane();
}

}  // namespace simt
