#include "tools/lab/machine_code/runtime/memory.h"

#include <cstring>
#include <iterator>
#include <map>
#include <string>

#include "tools/lab/machine_code/runtime/executor.h"

namespace machine_code {

namespace {

constexpr size_t kGap = 512, kAlignment = 256;

std::map<size_t, size_t> allocations[2];  // of each part: offset in the arena -> bytes

size_t begin_of(Part part) {
  return part == Part::kDevice ? 0 : arena().device_bytes;
}
size_t end_of(Part part) {
  return arena().device_bytes + (part == Part::kDevice ? 0 : arena().pinned_bytes);
}

bool in_arena(const void* address) {
  const char* at = static_cast<const char*>(address);
  return at >= arena().address &&
         at < arena().address + arena().device_bytes + arena().pinned_bytes;
}

size_t offset_of(const void* address) {
  return size_t(static_cast<const char*>(address) - arena().address);
}

// Host memory of its own, or within one allocation.
bool exists(const void* address, size_t bytes) {
  if (!in_arena(address)) return true;
  const size_t at = offset_of(address);
  const auto& taken = allocations[int(at < arena().device_bytes ? Part::kDevice : Part::kPinned)];
  const auto next = taken.upper_bound(at);
  if (next == taken.begin()) return false;
  const auto& [begin, size] = *std::prev(next);
  return at + bytes <= begin + size;
}

// Where the host reads and writes the bytes that have this address.
char* contents_of(const void* address) {
  return in_arena(address) ? arena().contents + offset_of(address)
                           : const_cast<char*>(static_cast<const char*>(address));
}

std::string message(const char* what, size_t offset, size_t bytes) {
  return std::string("{\"") + what + "\": [" + std::to_string(offset) + ", " +
         std::to_string(bytes) + "]}";
}

}  // namespace

void* allocate(Part part, size_t bytes) {
  std::map<size_t, size_t>& taken = allocations[int(part)];
  const auto aligned = [](size_t at) { return (at + kAlignment - 1) / kAlignment * kAlignment; };
  // The lowest place where it fits.
  size_t at = aligned(begin_of(part) + kGap);
  for (const auto& [begin, size] : taken) {
    if (at + bytes + kGap <= begin) break;
    at = aligned(begin + size + kGap);
  }
  if (bytes > end_of(part) || at + bytes + kGap > end_of(part)) return nullptr;
  taken[at] = bytes;
  std::memset(arena().written + at, part == Part::kPinned, bytes);
  ask(message("allocate", at, bytes));
  return arena().address + at;
}

bool release(Part part, void* address) {
  const auto found = allocations[int(part)].find(offset_of(address));
  if (found == allocations[int(part)].end()) return false;
  ask(message("free", found->first, found->second));
  allocations[int(part)].erase(found);
  return true;
}

bool copy(void* to, const void* from, size_t bytes) {
  if (!exists(to, bytes) || !exists(from, bytes)) return false;
  std::memmove(contents_of(to), contents_of(from), bytes);
  if (!in_arena(to)) return true;
  unsigned char* written = arena().written + offset_of(to);
  if (in_arena(from))
    std::memmove(written, arena().written + offset_of(from), bytes);
  else
    std::memset(written, 1, bytes);
  return true;
}

bool fill(void* to, int value, size_t bytes) {
  if (!exists(to, bytes)) return false;
  std::memset(contents_of(to), value, bytes);
  if (in_arena(to)) std::memset(arena().written + offset_of(to), 1, bytes);
  return true;
}

}  // namespace machine_code
