// Runs the threads of one block as fibers of the calling OS thread.
#pragma once

#include <functional>

#include "kernels/simt/control.h"
#include "kernels/simt/vector_types.h"

namespace simt {

struct Launch {
  const void* function;  // for messages
  dim3 grid, block;
  size_t dynamic_bytes;
  std::function<void()> thread;
};

// The order asked for by set_thread_order().
struct Schedule {
  ThreadOrder order = ThreadOrder::kAscending;
  uint64_t seed = 0;
};

inline constexpr size_t kMaxDynamicBytes = 227 * 1024;

void run_block(const Launch& launch, uint3 block, const Schedule& schedule);

// launch.cpp: all blocks of a launch, spread over the OS threads; returns when they are done.
void run_grid(const Launch& launch);

}  // namespace simt
