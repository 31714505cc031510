// `bench --compare`: the native backend beside cuDNN and cuBLAS.
#pragma once

#include "host/cli/commands/bench_result.h"
#include "host/cli/output.h"
#include "host/engine/engine.h"
#include "host/error.h"

namespace mnist::cli {

// kInternal if the rival could not run every row; the others are reported all the same.
ExitCode compare_timings(Target target, const BenchOptions& options, Results& results);

}  // namespace mnist::cli
