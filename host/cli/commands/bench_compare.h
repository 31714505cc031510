// `bench --compare`: the native backend beside cuDNN and cuBLAS.
#pragma once

#include <string>

#include "host/cli/output.h"
#include "host/engine/engine.h"
#include "host/error.h"

namespace mnist::cli {

struct CompareOptions {
  std::string filter;
  std::string plot;  // an SVG file to write; empty: none
  int repeats = 30, threads = 0;
  bool json = false;
};

// kInternal if the rival could not run every row; the others are reported all the same.
ExitCode compare_backends(Target target, const CompareOptions& options, Results& results);

}  // namespace mnist::cli
