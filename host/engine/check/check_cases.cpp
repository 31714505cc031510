#include "host/engine/check/check_cases.h"

#include <algorithm>

namespace mnist::MNIST_TARGET {

std::vector<CheckCase> check_cases(int model_batch) {
  std::vector<CheckCase> cases;
  const auto add = [&](const Extent& input, const std::string& layers,
                       const std::vector<int>& batches) {
    const int most = *std::max_element(batches.begin(), batches.end());
    cases.push_back({make_op_case(most, input, layers), batches});
  };
  // 128 of 60,000 images leave 96 for the last batch.
  const std::vector<int> model_batches{model_batch, model_batch * 3 / 4, 1}, small{7, 1, 3};
  add({28, 28, 1}, "conv:32x3", model_batches);
  add({13, 13, 32}, "conv:64x3", model_batches);
  add({28, 28, 1}, "conv:32x3,pool:2", model_batches);
  add({13, 13, 32}, "conv:64x3,pool:2", model_batches);
  add({26, 26, 32}, "pool:2", model_batches);
  add({11, 11, 64}, "pool:2", model_batches);
  add({1, 1, 1600}, "dense:128", model_batches);
  add({1, 1, 128}, "dense:10:linear", model_batches);
  add({1, 1, 10}, "softmax", model_batches);

  add({9, 7, 3}, "conv:5x3x2", small);
  add({8, 11, 5}, "conv:7x1:linear", small);
  add({9, 8, 4}, "conv:8x3:same:nobias", small);
  add({7, 6, 3}, "conv:5x2x4:same", small);  // one column more after than before
  add({10, 9, 3}, "conv:8x3x4:stride2x3", small);
  add({8, 7, 4}, "conv:9x3:same:stride2", small);
  add({15, 16, 1}, "conv:32x5:stride2:linear:nobias", small);
  add({5, 4, 33}, "conv:65x3:same", small);
  add({14, 14, 64}, "conv:64x3:same", {16, 5});
  add({12, 10, 4}, "conv:31x3:same,pool:2", small);
  add({11, 9, 33}, "conv:8x3,pool:2", small);    // the pooling drops rows and columns
  add({12, 13, 3}, "conv:9x5x2,pool:2", small);  // not fused
  add({7, 5, 3}, "pool:2", small);
  add({9, 8, 4}, "pool:3:stride2", small);     // overlapping
  add({9, 10, 7}, "pool:2:stride3x4", small);  // gaps
  add({7, 6, 4}, "pool:3:same:stride2", small);
  add({27, 27, 64}, "pool:3:stride2", {16, 5});
  add({1, 1, 17}, "dense:33", small);
  add({1, 1, 65}, "dense:1:nobias", small);
  add({1, 1, 1024}, "dense:257:linear", {129, 64, 1});
  add({1, 1, 1}, "softmax", small);
  add({1, 1, 101}, "softmax", {129, 1});
  return cases;
}

}  // namespace mnist::MNIST_TARGET
