// What a program may ask of the cpu target beyond CUDA: for tests and for --threads.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace simt {

// The order in which the threads of a block (and the blocks of a grid) get to run between barriers,
// and the nodes of a graph that do not wait for each other. Shuffled, streams also take turns at
// random while they are given work. What has no race gives the same bits in all of them.
enum class ThreadOrder { kAscending, kDescending, kShuffled };
void set_thread_order(ThreadOrder order, uint64_t seed = 0);

// OS threads that share the blocks of a launch; 0 = one per core of this process's affinity mask.
void set_os_threads(int count);
int os_threads();

// How often each function of the CUDA API has been called so far.
std::map<std::string, int64_t> calls();
int64_t graph_nodes_launched();  // by cudaGraphLaunch, so far
// From now on kernels, copies and fills that streams are given are counted and dropped: what
// remains is the host's own work. Only where no stream has work.
void skip_device_work(bool skip);

// Kernels launched to start before their predecessor in the stream has ended see, until they call
// griddepcontrol_wait(), device memory as it was before it ran, and must not write there. What is
// right gives the same bits. Holds for what runs from now on; such kernels run on one OS thread.
void set_prologues_early(bool early);
// Launches of such kernels so far.
int64_t dependent_launches();

// How many devices there seem to be: the processor under several numbers, one unless set.
void set_device_count(int count);

// The nth cudaMalloc, cudaMallocHost or cudaHostAlloc from now on (1: the next) fails with
// cudaErrorMemoryAllocation, once; 0 switches that off.
void fail_allocation(int nth);
// Allocations made and not freed yet.
int live_allocations();

}  // namespace simt
