#include "host/engine/check.h"

#include "host/engine/target_api.h"
#include "host/error.h"

namespace mnist {

std::vector<OperationDifference> check_backends(Math math) {
  try {
    return usable_target(Target::kCuda).check_backends(math);
  } catch (const Error& error) {
    throw Error(error.code(), std::string("check-backends: ") + error.what());
  }
}

}  // namespace mnist
