// Every layer of kernels/cudnn on the stand-in, against the reference.
#include "host/engine/backends/cudnn/check.h"
#include "tests/engine/cudnn/fixture.h"

namespace mnist::MNIST_TARGET {
namespace {

std::shared_ptr<Context> new_context(const CudnnOptions& options = {}) {
  stand_in::reset();
  return make_context(options);
}

// One way to build a layer: with bias, with ReLU, with the gate in the backward pass.
struct Variant {
  bool bias, relu, gate;
};
const std::vector<Variant> all_variants = {
    {true, true, true},  {true, true, false},  {true, false, true},  {true, false, false},
    {false, true, true}, {false, true, false}, {false, false, true}, {false, false, false}};

std::string to_string(const Variant& v) {
  return std::string("bias ") + (v.bias ? "yes" : "no") + ", ReLU " + (v.relu ? "yes" : "no") +
         ", gate " + (v.gate ? "yes" : "no");
}

ConvShape with_batch(ConvShape shape, int n) {
  shape.n = n;
  return shape;
}

// Gradients of the size of training's in FP16, where large ones overflow.
std::vector<float> random_gradient(Random& random, size_t size, bool fp16) {
  const float most = fp16 ? 1.0f / 64 : 1;
  return random.reals(size, -most, most);
}

// How an op computes. split: a convolution whose bias and ReLU are operations of their own, in
// float32.
struct Arithmetic {
  bool fp16 = false, split = false;
};
const std::vector<Arithmetic> both_arithmetics = {{false, false}, {true, false}};

CudnnOptions options_of(const Arithmetic& arithmetic) {
  return {.fp16 = arithmetic.fp16};
}

void check_convolution(LayerOp& op, const Arena& arena, const ConvShape& shape,
                       const Variant& variant, const Arithmetic& arithmetic = {}) {
  const bool fp16 = arithmetic.fp16;
  Random random;
  Inputs in;
  in.gate = variant.gate;
  in.x = variant.gate ? random.rectified(shape.input_size()) : random.reals(shape.input_size());
  in.kernel = random.reals(shape.filter_size());
  in.bias = random.reals(variant.bias ? size_t(shape.k) : 0);
  in.dy = random_gradient(random, shape.output_size(), fp16);
  const Outcome out = run_layer(op, arena, in, shape.n);

  struct Results {
    reference::Sums y, dx, kernel_gradient;
  };
  const auto results = [&](const reference::Tensor& x, const reference::Tensor& kernel,
                           const reference::Tensor& bias, const reference::Tensor& dy) {
    Results r{reference::conv2d_forward(x, kernel, bias, shape),
              reference::conv2d_backward_data(dy, kernel, shape),
              reference::conv2d_backward_filter(x, dy, shape)};
    if (variant.relu) r.y = reference::relu(r.y);
    if (variant.gate) r.dx = reference::gated(r.dx, widen(in.x));
    return r;
  };
  const Results exact = results(widen(in.x), widen(in.kernel), widen(in.bias), widen(in.dy));
  if (fp16) {
    const bool fused = variant.bias && variant.relu && !arithmetic.split;
    const auto x = operands(in.x, true), kernel = operands(in.kernel, true);
    const auto bias = operands(in.bias, fused);
    const Results want = results(x, kernel, bias, operands(in.dy, true, kScale));
    // The convolution's result as it is rounded: a ReLU after that changes no error.
    const auto rounded =
        reference::conv2d_forward(x, kernel, fused ? bias : reference::Tensor{}, shape).value;
    REQUIRE(difference_of_halves(out.y, want.y, rounded, output_extents(shape)) == "");
    REQUIRE(difference_of_halves(out.dx, want.dx, want.dx.value, input_extents(shape), kScale) ==
            "");
    REQUIRE(difference_of_halves(out.kernel_gradient, want.kernel_gradient,
                                 want.kernel_gradient.value, filter_extents(shape), kScale) == "");
    REQUIRE(difference_from_exact(out.y, exact.y, output_extents(shape)) == "");
    REQUIRE(difference_from_exact(out.dx, exact.dx, input_extents(shape)) == "");
    REQUIRE(difference_from_exact(out.kernel_gradient, exact.kernel_gradient,
                                  filter_extents(shape)) == "");
  } else {
    REQUIRE(difference(out.y, exact.y, output_extents(shape)) == "");
    REQUIRE(difference(out.dx, exact.dx, input_extents(shape)) == "");
    REQUIRE(difference(out.kernel_gradient, exact.kernel_gradient, filter_extents(shape)) == "");
  }
  // The bias' gradient has no product.
  if (variant.bias)
    REQUIRE(difference(out.bias_gradient,
                       reference::bias_backward(widen(in.dy), int64_t(shape.n) * shape.p * shape.q,
                                                shape.k),
                       {shape.k}) == "");
}

// One op for a shape, made and checked.
void check_new_convolution(const ConvShape& shape, const Variant& variant,
                           const Arithmetic& arithmetic) {
  const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.k) : 0);
  const auto op = make_convolution(new_context(options_of(arithmetic)), "conv2d", shape,
                                   arena.offsets(), variant.relu, Mode::kTraining);
  REQUIRE(op->name == "conv2d");
  REQUIRE(op->output_size == int64_t(shape.p) * shape.q * shape.k);
  REQUIRE(op->ends_in_relu == variant.relu);
  check_convolution(*op, arena, shape, variant, arithmetic);
}

TEST_CASE("cudnn convolution", "[cudnn]") {
  std::vector<ConvShape> shapes = edge_conv_shapes();
  for (const ConvShape& shape : model_conv_shapes(3)) shapes.push_back(shape);
  size_t turn = 0;
  for (const ConvShape& shape : shapes) {
    const Variant variant = all_variants[turn++ % all_variants.size()];
    for (const Arithmetic& arithmetic : both_arithmetics)
      DYNAMIC_SECTION(to_string(shape)
                      << ", " << to_string(variant) << ", fp16 " << arithmetic.fp16) {
        check_new_convolution(shape, variant, arithmetic);
      }
  }
}

TEST_CASE("cudnn convolution with every mixture of bias, ReLU and gate", "[cudnn]") {
  for (const ConvShape& shape :
       {conv_valid(2, 8, 9, 3, 5, {3, 2}), conv_same(3, 8, 7, 4, 9, {3, 3}, {2, 2}),
        conv_same(2, 7, 6, 3, 5, {2, 4})})
    for (const Variant& variant : all_variants)
      for (const Arithmetic& arithmetic : both_arithmetics)
        DYNAMIC_SECTION(to_string(shape)
                        << ", " << to_string(variant) << ", fp16 " << arithmetic.fp16) {
          check_new_convolution(shape, variant, arithmetic);
        }
}

TEST_CASE("cudnn layers take smaller batches than the largest", "[cudnn]") {
  const Variant variant{true, true, true};
  const ConvShape shape = conv_same(7, 6, 5, 3, 4, {2, 3});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  for (const Arithmetic& arithmetic : both_arithmetics) {
    const auto op = make_convolution(new_context(options_of(arithmetic)), "conv2d", shape,
                                     arena.offsets(), true, Mode::kTraining);
    for (int n : {7, 1, 3, 7, 2})
      check_convolution(*op, arena, with_batch(shape, n), variant, arithmetic);
  }
}

TEST_CASE("cudnn convolution by either search", "[cudnn]") {
  const ConvShape shape = conv_valid(2, 8, 9, 3, 5, {3, 2});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  for (const auto& [timed, fp16] :
       {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
    INFO("timed " << timed << ", fp16 " << fp16);
    const auto context = new_context({.timed_search = timed, .fp16 = fp16});
    const auto op =
        make_convolution(context, "conv2d", shape, arena.offsets(), true, Mode::kTraining);
    REQUIRE(stand_in::calls("cudnnFindConvolutionForwardAlgorithm") == timed);
    REQUIRE(stand_in::calls("cudnnFindConvolutionBackwardDataAlgorithm") == timed);
    REQUIRE(stand_in::calls("cudnnFindConvolutionBackwardFilterAlgorithm") == timed);
    REQUIRE(stand_in::calls("cudnnGetConvolutionForwardAlgorithm_v7") == !timed);
    REQUIRE(stand_in::calls("cudnnGetConvolutionBackwardDataAlgorithm_v7") == !timed);
    REQUIRE(stand_in::calls("cudnnGetConvolutionBackwardFilterAlgorithm_v7") == !timed);
    check_convolution(*op, arena, shape, {true, true, false}, {fp16, false});
  }
}

TEST_CASE("cudnn convolution without fusion computes the same", "[cudnn]") {
  const ConvShape shape = conv_same(3, 8, 7, 4, 9, {3, 3}, {2, 2});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  for (const Arithmetic& arithmetic : both_arithmetics) {
    const auto context = new_context(options_of(arithmetic));
    stand_in::refuse_fusion(true);
    const auto op =
        make_convolution(context, "conv2d", shape, arena.offsets(), true, Mode::kTraining);
    for (int n : {3, 2, 3, 2})
      check_convolution(*op, arena, with_batch(shape, n), {true, true, true},
                        {arithmetic.fp16, true});
    REQUIRE(stand_in::calls("cudnnConvolutionForward") == 4);
    REQUIRE(stand_in::calls("cudnnConvolutionBiasActivationForward") == 2);  // asked once per plan
  }
}

TEST_CASE("a convolution that cuDNN does not have in FP16 computes in float32", "[cudnn]") {
  const ConvShape shape = conv_same(3, 8, 7, 4, 9, {3, 3}, {2, 2});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  const auto context = new_context({.fp16 = true});
  stand_in::refuse_half(true);
  const auto op =
      make_convolution(context, "conv2d", shape, arena.offsets(), true, Mode::kTraining);
  check_convolution(*op, arena, shape, {true, true, true});
  // What it lacks in both is a failure.
  stand_in::refuse_determinism(true);
  REQUIRE_THROWS_AS(
      make_convolution(context, "conv2d", shape, arena.offsets(), true, Mode::kTraining),
      CudnnError);
}

TEST_CASE("operands beyond FP16 become infinite", "[cudnn]") {
  const DenseShape shape{1, 2, 1};
  const Arena arena(2, 0);
  const auto op = make_dense(new_context({.fp16 = true}), "dense", shape, arena.offsets(), false,
                             Mode::kTraining);
  // 65519 is nearer to 65504, the largest; of gradients it is 16 that is beyond.
  REQUIRE(run_layer(*op, arena, {{65519, 1}, {1, 1}, {}, {15.9f}}, 1).y[0] == 65505);
  const Outcome out = run_layer(*op, arena, {{65520, 1}, {1, 1}, {}, {16}}, 1);
  REQUIRE(out.y[0] == INFINITY);
  REQUIRE(out.dx[0] == INFINITY);
  // One that is no number remains none.
  REQUIRE(std::isnan(run_layer(*op, arena, {{NAN, 1}, {1, 1}, {}, {1}}, 1).y[0]));
}

TEST_CASE("cudnn ops convert no operand that is kept", "[cudnn]") {
  const ConvShape conv = conv_valid(2, 6, 5, 3, 4, {3, 2});
  const DenseShape dense{2, 9, 4};
  for (const bool of_dense : {false, true}) {
    const auto context = new_context({.fp16 = true});
    const Arena arena(of_dense ? dense.filter_size() : conv.filter_size(), 4);
    const auto op =
        of_dense
            ? make_dense(context, "dense", dense, arena.offsets(), true, Mode::kTraining)
            : make_convolution(context, "conv2d", conv, arena.offsets(), true, Mode::kTraining);
    Random random;
    const auto n_of = [&](const auto& shape) {
      return std::pair(shape.input_size(), shape.output_size());
    };
    const auto [inputs, outputs] = of_dense ? n_of(dense) : n_of(conv);
    const DeviceBuffer<float> x = upload(random.reals(inputs)), dx(inputs);
    const DeviceBuffer<float> dy = upload(random_gradient(random, outputs, true)), y(outputs);
    const DeviceBuffer<float> gradients(arena.filled({}, {}).size());
    const DeviceBuffer<float> weights = upload(random.reals(gradients.size()));
    const Stream stream;
    const auto run = [&](bool kept) {
      const Pass pass{weights.data(), nullptr, 2, stream, kept};
      if (!kept) op->load_weights(pass);
      op->forward(y.data(), x.data(), pass);
      op->backward_filter(gradients.data(), dy.data(), x.data(), pass);
      op->backward_data(dx.data(), dy.data(), x.data(), y.data(), false, pass);
      return stand_in::calls("cudnnTransformTensor");
    };
    const int converted = run(false);
    // x, w, dy twice; and of a convolution, whose results are halves, bias, y and dx.
    REQUIRE(converted == (of_dense ? 4 : 7));
    REQUIRE(run(true) == converted);
    INFO(joined(stand_in::faults()));
    REQUIRE(stand_in::faults().empty());
  }
}

TEST_CASE("cudnn max pooling", "[cudnn]") {
  std::vector<PoolShape> shapes = edge_pool_shapes();
  for (const PoolShape& shape : model_pool_shapes(3)) shapes.push_back(shape);
  for (const PoolShape& shape : shapes)
    for (bool gate : {false, true}) DYNAMIC_SECTION(to_string(shape) << ", gate " << gate) {
        const auto op = make_max_pooling(new_context(), "pool", shape, Mode::kTraining);
        REQUIRE(op->output_size == int64_t(shape.p) * shape.q * shape.c);
        REQUIRE_FALSE(op->ends_in_relu);
        Random random;
        Inputs in;
        in.gate = gate;
        // A gate of zeros gives ties, whose gradient the gate drops.
        in.x = gate ? random.rectified(shape.input_size()) : random.reals(shape.input_size());
        in.kernel = {0};
        in.dy = random.reals(shape.output_size());
        const Stream stream;
        const DeviceBuffer<float> x = upload(in.x), dy = upload(in.dy);
        const DeviceBuffer<float> y(in.dy.size()), dx(in.x.size());
        const Pass pass{nullptr, nullptr, shape.n, stream};
        op->load_weights(pass);
        op->forward(y.data(), x.data(), pass);
        op->backward_data(dx.data(), dy.data(), x.data(), y.data(), gate, pass);
        INFO(joined(stand_in::faults()));
        REQUIRE(stand_in::faults().empty());
        const reference::Pooled want = reference::maxpool2d_forward(widen(in.x), shape);
        auto want_dx = reference::maxpool2d_backward(widen(in.dy), want.argmax, shape);
        if (gate) want_dx = reference::gated(want_dx, widen(in.x));
        REQUIRE(inequality(download(y), want.y, {shape.n, shape.p, shape.q, shape.c}) == "");
        REQUIRE(difference(download(dx), want_dx, {shape.n, shape.h, shape.w, shape.c}) == "");
        REQUIRE(same_bits(download(x), in.x));
        REQUIRE(same_bits(download(dy), in.dy));
      }
}

void check_dense(LayerOp& op, const Arena& arena, const DenseShape& shape, const Variant& variant,
                 const Arithmetic& arithmetic = {}) {
  const bool fp16 = arithmetic.fp16;
  Random random;
  Inputs in;
  in.gate = variant.gate;
  in.x = variant.gate ? random.rectified(shape.input_size()) : random.reals(shape.input_size());
  in.kernel = random.reals(shape.filter_size());
  in.bias = random.reals(variant.bias ? size_t(shape.out) : 0);
  in.dy = random_gradient(random, shape.output_size(), fp16);
  const Outcome out = run_layer(op, arena, in, shape.n);

  // Factors alone are rounded.
  for (const bool rounded : fp16 ? std::vector{true, false} : std::vector{false}) {
    const auto x = operands(in.x, rounded), kernel = operands(in.kernel, rounded);
    const auto dy = operands(in.dy, rounded, kScale);
    auto y = reference::dense_forward(x, kernel, widen(in.bias), shape);
    if (variant.relu) y = reference::relu(y);
    auto dx = reference::dense_backward_data(dy, kernel, shape);
    if (variant.gate) dx = reference::gated(dx, widen(in.x));
    const auto compare = rounded == fp16 ? difference<float> : difference_from_exact;
    REQUIRE(compare(out.y, y, output_extents(shape)) == "");
    REQUIRE(compare(out.dx, dx, input_extents(shape)) == "");
    REQUIRE(compare(out.kernel_gradient, reference::dense_backward_filter(x, dy, shape),
                    filter_extents(shape)) == "");
  }
  if (variant.bias)
    REQUIRE(difference(out.bias_gradient,
                       reference::bias_backward(widen(in.dy), shape.n, shape.out),
                       {shape.out}) == "");
}

TEST_CASE("cudnn dense", "[cudnn]") {
  std::vector<DenseShape> shapes = edge_dense_shapes();
  for (const DenseShape& shape : model_dense_shapes(33)) shapes.push_back(shape);
  size_t turn = 0;
  for (const DenseShape& shape : shapes) {
    const Variant variant = all_variants[turn++ % all_variants.size()];
    for (const Arithmetic& arithmetic : both_arithmetics)
      DYNAMIC_SECTION(to_string(shape)
                      << ", " << to_string(variant) << ", fp16 " << arithmetic.fp16) {
        const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.out) : 0);
        const auto op = make_dense(new_context(options_of(arithmetic)), "dense", shape,
                                   arena.offsets(), variant.relu, Mode::kTraining);
        REQUIRE(op->output_size == shape.out);
        REQUIRE(op->ends_in_relu == variant.relu);
        check_dense(*op, arena, shape, variant, arithmetic);
      }
  }
}

TEST_CASE("cudnn dense with every mixture of bias, ReLU and gate", "[cudnn]") {
  const DenseShape shape{9, 21, 35};
  for (const Variant& variant : all_variants)
    for (const auto& [fused, fp16] : {std::pair{true, false}, {false, false}, {false, true}})
      DYNAMIC_SECTION(to_string(variant) << ", fused bias " << fused << ", fp16 " << fp16) {
        const auto context = new_context({.fp16 = fp16});
        stand_in::refuse_bias_gradient(!fused && !fp16);  // FP16 does not ask
        const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.out) : 0);
        const auto op =
            make_dense(context, "dense", shape, arena.offsets(), variant.relu, Mode::kTraining);
        check_dense(*op, arena, shape, variant, {fp16, false});
        check_dense(*op, arena, {5, shape.in, shape.out}, variant, {fp16, false});
        REQUIRE((stand_in::calls("cudnnConvolutionBackwardBias") > 0) == (variant.bias && !fused));
      }
}

TEST_CASE("cudnn softmax", "[cudnn]") {
  for (const auto& [n, classes] : {std::pair{1, 1}, {3, 10}, {65, 7}}) {
    const auto context = new_context();
    const Stream stream;
    Random random;
    std::vector<float> h_logits = random.reals(size_t(n) * size_t(classes), -30, 30);
    h_logits[0] = 1e4f;
    const DeviceBuffer<float> logits = upload(h_logits), result(h_logits.size());
    cudnn::softmax(*context, result.data(), logits.data(), n, classes, stream);
    INFO(joined(stand_in::faults()));
    REQUIRE(stand_in::faults().empty());
    REQUIRE(difference(download(result), reference::softmax(widen(h_logits), n, classes),
                       {n, classes}) == "");
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
