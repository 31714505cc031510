// Runs the threads of one block as fibers of the calling OS thread.
#pragma once

#include <functional>
#include <string>

#include "kernels/simt/control.h"
#include "kernels/simt/vector_types.h"

namespace simt {

class EarlyMemory;

struct Launch {
  const void* function;  // for messages
  dim3 grid, block;
  size_t dynamic_bytes;
  bool dependent;  // may start before its predecessor has ended
  std::function<void()> thread;
  EarlyMemory* early = nullptr;  // what its prologue sees, if that is to be as old as it may be
};

// The order asked for by set_thread_order().
struct Schedule {
  ThreadOrder order = ThreadOrder::kAscending;
  uint64_t seed = 0;
};

// grid.cpp. The runtime's lock guards both.
const Schedule& schedule();
size_t random_below(size_t bound);  // from the schedule's seed

inline constexpr size_t kMaxDynamicBytes = 227 * 1024;

// scheduler.cpp: one block, on the calling OS thread. Throws as run_grid() does; nothing is unwound
// then, since what a kernel's frames hold is plain data.
void run_block(const Launch& launch, uint3 block, const Schedule& schedule);

// grid.cpp: all blocks of a launch, spread over the OS threads (with early memory, on one); returns
// when they are done. Throws std::bad_alloc where the memory for the stacks of its threads is
// missing.
void run_grid(const Launch& launch);

// launch.cpp: a kernel's name without its parameters, for messages; "?" if it is not known.
std::string kernel_name(const void* function);

}  // namespace simt
