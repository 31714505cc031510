// Runs rows of the benchmark, for `machine_code.sh time --json`: CUDA's events tell the times that
// the executor predicts. Prints a JSON object for each row, and that of the step.
//
//   record_kernels fp32|fp16    the rows of 128 images; in fp16 those of evaluation too
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "host/engine/bench.h"

namespace {

void print(const mnist::BenchRow& row, double seconds) {
  std::printf(
      "{\"name\": \"%s\", \"shape\": \"%s\", \"backend\": \"%s\", \"predicted_us\": %.2f}\n",
      row.name.c_str(), row.shape.c_str(), row.backend.c_str(), seconds * 1e6);
  std::fflush(stdout);
}

bool has_prediction(const mnist::BenchRow& row) {
  const std::string parameters = "225034";  // of the default model: adam's row
  return row.math == mnist::Math::kFp16 || row.shape == parameters ||
         row.shape.starts_with(std::to_string(mnist::kStepBatch) + "x");
}

}  // namespace

int main(int argc, char** argv) {
  const bool fp16 = argc > 1 && std::string_view(argv[1]) == "fp16";
  const mnist::Math math = fp16 ? mnist::Math::kFp16 : mnist::Math::kFp32;
  const auto bench = mnist::make_kernel_bench(mnist::Target::kCuda, false, 1, math);
  for (size_t i = 0; i < bench->rows().size(); ++i) {
    const mnist::BenchRow& row = bench->rows()[i];
    if (has_prediction(row)) print(row, bench->time(i, 1).seconds.front());
  }
  print(mnist::step_row(mnist::BackendKind::kNative, math), 0);
}
