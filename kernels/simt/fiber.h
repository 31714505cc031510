// A stack to run on, and the switch between two of them.
//
// Why Boost's fcontext and not its public boost::context::fiber (1.74): the latter is no faster
// (measured: the same time at barriers, 10 % more at warp collectives), tells no sanitizer of its
// switches, hides the bounds of the stack, which AddressSanitizer needs, and unwinds a suspended
// fiber when it is destroyed.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace simt {

// What every fiber runs; scheduler.cpp.
[[noreturn]] void fiber_main();

// Either the stack of the calling OS thread or one of its own.
class Fiber {
 public:
  struct WithStack {};

  // The stack that the caller runs on.
  Fiber() = default;

  // A stack of its own, on which fiber_main() begins at the first switch to it. Throws
  // std::bad_alloc where there is no memory.
  explicit Fiber(WithStack) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, page + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    const unsigned number = count_++;
    // An overflow hits the guard page and faults. A guard costs the process two of its mappings,
    // 65530 by default; the fibers of a hundred OS threads would use them up.
    if (number < kGuarded && mprotect(memory, page, PROT_NONE) != 0) {
      munmap(memory, page + kStackBytes);
      --count_;
      throw std::bad_alloc();
    }
    base_ = static_cast<char*>(memory);
    mapped_ = page + kStackBytes;
    bottom_ = base_ + page;
    // Staggered, so that the stacks' tops do not compete for the same sets of the cache.
    size_ = kStackBytes - number % 64 * 64;
    context_ = boost::context::detail::make_fcontext(base_ + page + size_, size_, &Fiber::start);
#if defined(__SANITIZE_THREAD__)
    tsan_fiber_ = __tsan_create_fiber(0);
#endif
  }

  // A fiber of its own may be left in mid-function: its frames are dropped, not unwound.
  ~Fiber() {
    if (base_ == nullptr) return;
#if defined(__SANITIZE_ADDRESS__)
    // Else the frames' poison would remain for the next mapping at these addresses.
    ASAN_UNPOISON_MEMORY_REGION(base_, mapped_);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(tsan_fiber_);
#endif
    munmap(base_, mapped_);
    --count_;
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves the fiber `from`, which must be the running one, and continues where `to` was left. The
  // sanitizers are told: for ThreadSanitizer, what `from` did happens before what `to` does now.
  static void switch_to(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.size_);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to.tsan_fiber_, 0);
#endif
    arrive(boost::context::detail::jump_fcontext(to.context_, &from));
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
  }

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr size_t kStackBytes = 512 * 1024;
#else
  static constexpr size_t kStackBytes = 64 * 1024;
#endif
  static constexpr unsigned kGuarded = 16384;

  // Whoever resumes a fiber passes itself along: only now is its own context known.
  static void arrive(boost::context::detail::transfer_t transfer) {
    static_cast<Fiber*>(transfer.data)->context_ = transfer.fctx;
  }

  static void start(boost::context::detail::transfer_t transfer) {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    Fiber* from = static_cast<Fiber*>(transfer.data);
    if (from->bottom_ == nullptr) {  // the OS thread's own stack, left for the first time
      from->bottom_ = bottom;
      from->size_ = size;
    }
#endif
    arrive(transfer);
    fiber_main();
  }

  static inline std::atomic<unsigned> count_ = 0;  // stacks that exist

  boost::context::detail::fcontext_t context_ = nullptr;
  char* base_ = nullptr;  // of the mapping: guard page, then stack
  size_t mapped_ = 0;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;
#if defined(__SANITIZE_THREAD__)
  void* tsan_fiber_ = __tsan_get_current_fiber();
#endif
};

}  // namespace simt
