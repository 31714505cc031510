// What an action's error would make the program exit with.
#pragma once

#include "host/error.h"

namespace mnist {

// The exit code of the error that `action` ends with, 0 without one.
template <class Action>
int code_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return int(error.code());
  }
  return 0;
}

}  // namespace mnist
