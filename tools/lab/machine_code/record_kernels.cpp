// Runs the benchmark's rows of 128 images, for `machine_code.sh time --json`: CUDA's events tell
// the times that the executor predicts. Prints a JSON object for each row, and that of the step.
#include <cstdio>
#include <string>
#include <vector>

#include "host/engine/bench.h"

namespace {

void print(const mnist::BenchRow& row, double seconds) {
  std::printf(
      "{\"name\": \"%s\", \"shape\": \"%s\", \"backend\": \"%s\", \"predicted_us\": %.2f}\n",
      row.name.c_str(), row.shape.c_str(), row.backend.c_str(), seconds * 1e6);
  std::fflush(stdout);
}

}  // namespace

int main() {
  const auto bench = mnist::make_kernel_bench(mnist::Target::kCuda, false, 1);
  const std::string parameters = "225034";  // of the default model: adam's row
  for (size_t i = 0; i < bench->rows().size(); ++i) {
    const mnist::BenchRow& row = bench->rows()[i];
    if (!row.shape.starts_with(std::to_string(mnist::kStepBatch) + "x") && row.shape != parameters)
      continue;
    print(row, bench->time(i, 1).seconds.front());
  }
  print(mnist::step_row(), 0);
}
