// Dense layers, the forward and both backward passes, tiled and naive, against the reference.
#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/layer_runs.h"
#include "tests/support/slow_device.h"

namespace mnist::MNIST_TARGET {
namespace {

std::vector<DenseShape> shapes() {
  std::vector<DenseShape> all = edge_dense_shapes();
  for (const DenseShape& shape : model_dense_shapes(33)) all.push_back(shape);
  if (slow_device()) return all;
  for (const DenseShape& shape : model_dense_shapes(128)) all.push_back(shape);
  all.push_back({20011, 2, 1});  // long sums in the gradients by w and bias
  return all;
}

// The launchers take no workspace.
template <auto kLaunch>
void without_workspace(float* dw, float* dbias, float*, const float* x, const float* dy,
                       const DenseShape& shape, cudaStream_t stream) {
  kLaunch(dw, dbias, x, dy, shape, stream);
}

const LayerCheck<DenseShape> check(
    {reference::dense_forward, reference::dense_backward_data, reference::dense_backward_filter},
    {{"tiled", dense_forward, dense_backward_data, without_workspace<dense_backward_filter>,
      no_workspace},
     {"naive", dense_forward_naive, dense_backward_data_naive,
      without_workspace<dense_backward_filter_naive>, no_workspace}});

TEST_CASE("dense_forward", "[dense]") {
  for (const DenseShape& shape : shapes()) DYNAMIC_SECTION(to_string(shape)) {
      check.forward(shape);
    }
}

TEST_CASE("dense_backward_data", "[dense]") {
  for (const DenseShape& shape : shapes()) DYNAMIC_SECTION(to_string(shape)) {
      check.backward_data(shape);
    }
}

TEST_CASE("dense_backward_filter", "[dense]") {
  for (const DenseShape& shape : shapes()) DYNAMIC_SECTION(to_string(shape)) {
      check.backward_filter(shape);
    }
}

TEST_CASE("dense_backward_filter without the gradient by the bias", "[dense]") {
  for (const DenseShape& shape :
       {DenseShape{1, 1, 1}, DenseShape{9, 21, 35}, DenseShape{130, 128, 10}})
    DYNAMIC_SECTION(to_string(shape)) {
      check.backward_filter_without_bias(shape);
    }
}

TEST_CASE("dense_forward with every mixture of bias and ReLU", "[dense]") {
  check.mixtures({9, 21, 35});
}

TEST_CASE("dense passes NaN on to what depends on it", "[dense]") {
  check.nan({5, 18, 7}, 11);
}

TEST_CASE("dense refuses impossible shapes", "[dense]") {
  for (const DenseShape& shape :
       {DenseShape{0, 4, 4}, DenseShape{4, 0, 4}, DenseShape{4, 4, 0}, DenseShape{-1, 4, 4}})
    check.refuses(shape);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
