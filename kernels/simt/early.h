// A kernel that is launched to start before its predecessor in the stream has ended (PTX's
// griddepcontrol) may find any of what the predecessor writes, or none of it. Kernels run one after
// the other here, so they find all of it. With set_prologues_early() they find none: until a block
// waits, device memory is as it was before the predecessor ran. That it must not write there before
// is checked, too.
#pragma once

#include <string>
#include <vector>

#include "kernels/simt/scheduler.h"

namespace simt {

// Places in device memory, and what they held.
struct Places {
  struct Place {
    char* at;
    std::vector<char> bytes;
  };
  std::vector<Place> list;
};

// run_grid(). If prologues are to run early, notes in `changed` what the kernel writes over.
void run_kernel(const Launch& launch, const Places& changed_by_predecessor, Places& changed);

// Device memory around the prologue of one block after the other.
class EarlyMemory {
 public:
  explicit EarlyMemory(const Places& changed_by_predecessor) : early_(changed_by_predecessor) {}
  // Takes back what the predecessor wrote.
  void begin_prologue();
  // Brings it again. Returns what the prologue has done wrong, or "".
  std::string end_prologue();

 private:
  const Places& early_;
  Places late_;   // what of it is to be brought again
  Places whole_;  // all of device memory, while the prologue runs
};

}  // namespace simt
