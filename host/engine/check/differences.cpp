#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "host/engine/check/case_on_host.h"
#include "host/engine/check/check_backends.h"
#include "host/engine/check/check_inputs.h"

namespace mnist::MNIST_TARGET {

namespace {

std::vector<float> absolute(std::vector<float> values) {
  for (float& value : values) value = std::fabs(value);
  return values;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b,
                          const std::vector<float>& magnitudes) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(double(a[i]) - double(b[i]));
    if (difference == 0) continue;
    const double relative = difference / double(magnitudes[i]);
    if (!std::isfinite(relative)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, relative);
  }
  return largest;
}

// The differences of one case, one for each pass.
struct Differences {
  double forward = 0, filter = 0, data = 0;
};

void compare(Differences& largest, CaseOnHost& native, CaseOnHost& other, const OpCase& op_case,
             const CheckInputs& in, int n) {
  const auto keep = [](double& kept, double value) { kept = std::max(kept, value); };
  const std::vector<float> y = native.forward(in.x, in.weights, n);
  const std::vector<float> other_y = other.forward(in.x, in.weights, n);
  if (op_case.is_softmax()) {
    keep(largest.forward, largest_difference(y, other_y, y));
    return;
  }
  for (const bool gate : {false, true}) {
    const auto a = native.backward(in.dy, in.x, y, in.weights, gate, n);
    const auto b = other.backward(in.dy, in.x, other_y, in.weights, gate, n);
    // A gate may change the sums to zero, not their magnitudes.
    const auto magnitudes =
        native.backward(absolute(in.dy), absolute(in.x), y, absolute(in.weights), false, n);
    keep(largest.filter, largest_difference(a.weights, b.weights, magnitudes.weights));
    keep(largest.data, largest_difference(a.x, b.x, magnitudes.x));
  }
  // Last: it makes the native op remember other winners.
  keep(largest.forward,
       largest_difference(y, other_y, native.forward(absolute(in.x), absolute(in.weights), n)));
}

}  // namespace

std::vector<OperationDifference> differences(Backend& native, Backend& other,
                                             const std::vector<CheckCase>& cases) {
  std::vector<OperationDifference> all;
  for (const auto& [op_case, batches] : cases) {
    CaseOnHost mine(native, op_case);
    Differences largest;
    try {
      CaseOnHost theirs(other, op_case);
      for (const int n : batches)
        compare(largest, mine, theirs, op_case, check_inputs(native, op_case, n), n);
    } catch (const std::runtime_error& error) {  // a library may lack what an op_case needs
      all.push_back(
          {op_case.name, op_case.shape, std::numeric_limits<double>::infinity(), error.what()});
      continue;
    }
    const auto add = [&, &op_case = op_case](const char* pass, double difference) {
      all.push_back({op_case.name + pass, op_case.shape, difference, ""});
    };
    if (op_case.is_softmax()) {
      add("", largest.forward);
      continue;
    }
    add("_forward", largest.forward);
    if (op_case.has_parameters()) {
      add("_backward_filter", largest.filter);
      add("_backward_data", largest.data);
    } else {
      add("_backward", largest.data);
    }
  }
  return all;
}

}  // namespace mnist::MNIST_TARGET
