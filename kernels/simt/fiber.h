// A stack to run on, and the switch between two of them (Boost.Context's fcontext).
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

// What every fiber runs; scheduler.cpp.
[[noreturn]] void fiber_main();

// A stack of its own, or (Fiber()) the stack of the calling OS thread. A guard page below the stack
// turns overflow into a fault.
class Fiber {
 public:
  struct WithStack {};

  Fiber() = default;

  explicit Fiber(WithStack) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    mapped_ = kStackBytes + page;
    void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
      std::perror("simt: no memory for the stack of a CUDA thread");
      std::abort();
    }
    base_ = static_cast<char*>(memory);
    bottom_ = base_ + page;
    // Not all at the same place in a page: they would fight for the same lines of the cache.
    static std::atomic<unsigned> count = 0;
    size_ = kStackBytes - count++ % 64 * 64;
    context_ = boost::context::detail::make_fcontext(base_ + page + size_, size_, &Fiber::start);
  }

  ~Fiber() {
    if (base_ == nullptr) return;
#if defined(__SANITIZE_ADDRESS__)
    // Frames that never returned would leave their marks to whoever gets the addresses next.
    ASAN_UNPOISON_MEMORY_REGION(base_, mapped_);
#endif
    munmap(base_, mapped_);
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves the fiber `from`, which must be the running one, and goes on where `to` was left.
  static void switch_to(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.size_);
#endif
    arrive(boost::context::detail::jump_fcontext(to.context_, &from));
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kStackBytes = 512 * 1024;
#else
  static constexpr size_t kStackBytes = 64 * 1024;
#endif

  // Whoever resumes a fiber hands over itself; only now is its own context known.
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

  boost::context::detail::fcontext_t context_ = nullptr;
  char* base_ = nullptr;
  size_t mapped_ = 0;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;
};

}  // namespace simt
