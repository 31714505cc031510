// Convolution, the forward and both backward passes, tiled and naive, against the reference.
#include "kernels/kernels.h"
#include "tests/support/cases.h"
#include "tests/support/layer_runs.h"

namespace mnist::MNIST_TARGET {
namespace {

std::vector<ConvShape> shapes() {
  std::vector<ConvShape> all = edge_conv_shapes();
  for (const ConvShape& shape : model_conv_shapes(3)) all.push_back(shape);
  for (const ConvShape& shape : model_conv_pool_shapes(2)) all.push_back(shape);
  return all;
}

// The two versions of each operation under one signature.
const LayerCheck<ConvShape> check(
    {reference::conv2d_forward, reference::conv2d_backward_data, reference::conv2d_backward_filter},
    {{"tiled", conv2d_forward, conv2d_backward_data, conv2d_backward_filter,
      conv2d_backward_filter_workspace},
     {"naive", conv2d_forward_naive, conv2d_backward_data_naive,
      [](float* dw, float* dbias, float*, const float* x, const float* dy, const ConvShape& shape,
         cudaStream_t stream) { conv2d_backward_filter_naive(dw, dbias, x, dy, shape, stream); },
      no_workspace}});

TEST_CASE("conv2d_forward", "[conv2d]") {
  for (const ConvShape& shape : shapes()) DYNAMIC_SECTION(to_string(shape)) {
      check.forward(shape);
    }
}

TEST_CASE("conv2d_backward_data", "[conv2d]") {
  for (const ConvShape& shape : shapes()) DYNAMIC_SECTION(to_string(shape)) {
      check.backward_data(shape);
    }
}

TEST_CASE("conv2d_backward_filter", "[conv2d]") {
  for (const ConvShape& shape : shapes()) DYNAMIC_SECTION(to_string(shape)) {
      check.backward_filter(shape);
    }
}

TEST_CASE("conv2d_backward_filter without the gradient by the bias", "[conv2d]") {
  std::vector<ConvShape> some = model_conv_shapes(2);
  some.push_back(conv_valid(1, 3, 3, 1, 1, {3, 3}));
  some.push_back(conv_same(2, 7, 6, 3, 5, {2, 4}));
  some.push_back(conv_valid(5, 6, 5, 32, 65, {3, 3}));
  some.push_back(conv_valid(2, 15, 16, 1, 32, {3, 3}, {2, 2}));
  for (const ConvShape& shape : some) DYNAMIC_SECTION(to_string(shape)) {
      check.backward_filter_without_bias(shape);
    }
}

TEST_CASE("conv2d_forward with every mixture of bias and ReLU", "[conv2d]") {
  check.mixtures(conv_same(2, 7, 9, 3, 33, {3, 3}));
}

TEST_CASE("conv2d passes NaN on to what depends on it", "[conv2d]") {
  // dy's in the image's interior: NaN times the zeros of the padding may well be NaN.
  check.nan(conv_same(2, 6, 7, 5, 6, {3, 3}), ((size_t(1) * 6 + 2) * 7 + 3) * 6 + 1);
}

TEST_CASE("conv2d refuses impossible shapes", "[conv2d]") {
  for (const ConvShape& shape : impossible_conv_shapes(conv_valid(1, 4, 4, 2, 2, {3, 3})))
    check.refuses(shape);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
