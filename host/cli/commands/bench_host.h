// bench --host: what training costs the thread that launches it.
#pragma once

#include "host/cli/commands/bench_result.h"

namespace mnist::cli {

void host_timings(const BenchOptions& options, Results& results);

}  // namespace mnist::cli
