// The operations of check-backends in FP16, on the stand-in, beside those in float32.
#include <algorithm>

#include "host/engine/backends/cudnn/backend.h"
#include "host/engine/backends/cudnn/library_tensor.h"
#include "host/engine/backends/layer_shapes.h"
#include "host/engine/check/check_backends.h"
#include "host/engine/check/check_cases.h"
#include "tests/engine/cudnn/fixture.h"

extern "C" const mnist::MNIST_TARGET::CudnnModule cuda_mnist_cudnn_module;

namespace mnist::MNIST_TARGET {
namespace {

// Whether its input is padded in a copy in float32 too.
bool is_copied(const Layer& layer) {
  const ConvShape s = conv_shape(layer, 1);
  return !WindowAxis{s.h, s.r, s.stride_h, s.pad_h, s.p}.plain() ||
         !WindowAxis{s.w, s.s, s.stride_w, s.pad_w, s.q}.plain();
}

TEST_CASE("FP16 on the cudnn backend agrees with float32 within the tolerance", "[cudnn]") {
  stand_in::reset();
  const auto floats = make_cudnn_backend(cuda_mnist_cudnn_module.open({}));
  const auto halves = make_cudnn_backend(cuda_mnist_cudnn_module.open({.fp16 = true}));
  std::vector<CheckCase> cases = check_cases(3);
  // The stand-in is slow. And the comparison takes magnitudes from backward passes with other x
  // than the forward pass had: cuDNN's pooling does not allow it, and a padded copy is the old x.
  std::erase_if(cases, [](const CheckCase& c) {
    if (c.op_case.batch > 7 || c.op_case.name == "maxpool2d") return true;
    return std::any_of(c.op_case.model.layers.begin(), c.op_case.model.layers.end(), is_copied);
  });
  for (const OperationDifference& d : differences(*floats, *halves, cases)) {
    INFO(d.name << " " << d.shape << " differs by " << d.largest << " " << d.error << "\n"
                << joined(stand_in::faults()));
    REQUIRE(stand_in::faults().empty());
    REQUIRE(agrees(d, Math::kFp16));
    REQUIRE(agrees(d) == (d.name == "softmax"));  // which has no product
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
