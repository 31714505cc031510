// Device and pinned memory: two parts of the arena, with unused bytes between allocations, so that
// accesses outside of them are seen.
#pragma once

#include <cstddef>

namespace machine_code {

enum class Part { kDevice, kPinned };

// Null if the part is full. The bytes count as never written; pinned ones as written.
void* allocate(Part part, size_t bytes);
bool release(Part part, void* address);  // false: there is no such allocation

// On host memory, pageable or pinned, and on device memory, by address. False: not all in one
// allocation.
bool copy(void* to, const void* from, size_t bytes);
bool fill(void* to, int value, size_t bytes);

}  // namespace machine_code
