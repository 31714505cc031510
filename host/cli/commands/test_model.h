// A model on the test set: what evaluate and report have in common.
#pragma once

#include <cstddef>
#include <string>

#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/report/evaluation.h"

namespace mnist::cli {

struct TestOptions {
  std::string model = "mnist.h5";
  DataOptions data;
  DeviceOptions device;
  int64_t limit = 0;  // the first N test images; 0: all
};
void add_test_options(Parser& parser, TestOptions& options);

struct TestedModel {
  ModelFile file;
  Dataset data;
  DeviceInfo device;
  double loss = 0, accuracy = 0;  // float32 values, as in the log
  int64_t saturated = 0;          // Metrics::saturated
  Answers answers;                // with the worst of the mistakes
};

// Throws Error(kInternal) if the loss is not finite. Says so if numbers were beyond FP16's range.
TestedModel test_model(ModelFile file, const TestOptions& options, size_t mistakes);

}  // namespace mnist::cli
