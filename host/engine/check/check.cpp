#include "host/engine/check.h"

#include "host/engine/target_api.h"
#include "host/error.h"

namespace mnist {

std::vector<OperationDifference> check_backends() {
  try {
    return usable_target(Target::kCuda).check_backends();
  } catch (const Error& error) {
    throw Error(error.code(), std::string("check-backends: ") + error.what());
  }
}

}  // namespace mnist
