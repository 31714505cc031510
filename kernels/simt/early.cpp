#include "kernels/simt/early.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/simt/control.h"
#include "kernels/simt/runtime.h"

namespace simt {

namespace {

bool prologues_early = false;

void copy_device_memory(Places& to) {
  const auto allocations = device_memory();
  to.list.resize(allocations.size());
  for (size_t i = 0; i < allocations.size(); ++i) {
    to.list[i].at = allocations[i].data();
    to.list[i].bytes.assign(allocations[i].begin(), allocations[i].end());
  }
}

void put_back(const Places& places) {
  for (const auto& [at, bytes] : places.list) std::memcpy(at, bytes.data(), bytes.size());
}

// The parts of `before` that memory no longer holds.
Places differences(const Places& before) {
  constexpr size_t kChunk = 64;
  Places changed;
  for (const auto& [at, bytes] : before.list) {
    if (std::memcmp(at, bytes.data(), bytes.size()) == 0) continue;
    for (size_t begin = 0; begin < bytes.size(); begin += kChunk) {
      const size_t size = std::min(kChunk, bytes.size() - begin);
      if (std::memcmp(at + begin, &bytes[begin], size) != 0)
        changed.list.push_back({at + begin, {&bytes[begin], &bytes[begin] + size}});
    }
  }
  return changed;
}

}  // namespace

void set_prologues_early(bool early) {
  const auto lock = lock_runtime();
  prologues_early = early;
}

int64_t dependent_launches() {
  const auto lock = lock_runtime();
  return runtime().dependent_launches;
}

void run_kernel(const Launch& launch, const Places& changed_by_predecessor, Places& changed) {
  changed.list.clear();
  if (!prologues_early) return run_grid(launch);
  Places before;
  copy_device_memory(before);
  EarlyMemory memory(changed_by_predecessor);
  Launch run = launch;
  if (launch.dependent) run.early = &memory;
  run_grid(run);
  changed = differences(before);
}

void EarlyMemory::begin_prologue() {
  copy_device_memory(whole_);
  put_back(early_);
  late_ = differences(whole_);
  copy_device_memory(whole_);
}

std::string EarlyMemory::end_prologue() {
  std::string fault;
  for (const auto& [at, bytes] : differences(whole_).list) {
    const auto in = std::ranges::find_if(whole_.list, [&, place = at](const Places::Place& all) {
      return all.at <= place && place < all.at + all.bytes.size();
    });
    fault = "device memory was written: about byte " + std::to_string(at - in->at) + " of " +
            std::to_string(in->bytes.size());
    break;
  }
  put_back(late_);
  return fault;
}

}  // namespace simt
