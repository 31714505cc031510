// Every layer of kernels/cudnn on the stand-in, against the reference.
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

void check_convolution(LayerOp& op, const Arena& arena, const ConvShape& shape,
                       const Variant& variant) {
  Random random;
  Inputs in;
  in.gate = variant.gate;
  in.x = variant.gate ? random.rectified(shape.input_size()) : random.reals(shape.input_size());
  in.kernel = random.reals(shape.filter_size());
  in.bias = random.reals(variant.bias ? size_t(shape.k) : 0);
  in.dy = random.reals(shape.output_size());
  const Outcome out = run_layer(op, arena, in, shape.n);

  auto y = reference::conv2d_forward(widen(in.x), widen(in.kernel), widen(in.bias), shape);
  if (variant.relu) y = reference::relu(y);
  auto dx = reference::conv2d_backward_data(widen(in.dy), widen(in.kernel), shape);
  if (variant.gate) dx = reference::gated(dx, widen(in.x));
  REQUIRE(difference(out.y, y, {shape.n, shape.p, shape.q, shape.k}) == "");
  REQUIRE(difference(out.dx, dx, {shape.n, shape.h, shape.w, shape.c}) == "");
  REQUIRE(difference(out.kernel_gradient,
                     reference::conv2d_backward_filter(widen(in.x), widen(in.dy), shape),
                     {shape.r, shape.s, shape.c, shape.k}) == "");
  if (variant.bias)
    REQUIRE(difference(out.bias_gradient,
                       reference::bias_backward(widen(in.dy), int64_t(shape.n) * shape.p * shape.q,
                                                shape.k),
                       {shape.k}) == "");
}

TEST_CASE("cudnn convolution", "[cudnn]") {
  std::vector<ConvShape> shapes = edge_conv_shapes();
  for (const ConvShape& shape : model_conv_shapes(3)) shapes.push_back(shape);
  size_t turn = 0;
  for (const ConvShape& shape : shapes) {
    const Variant variant = all_variants[turn++ % all_variants.size()];
    DYNAMIC_SECTION(to_string(shape) << ", " << to_string(variant)) {
      const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.k) : 0);
      const auto op = make_convolution(new_context(), "conv2d", shape, arena.offsets(),
                                       variant.relu, Mode::kTraining);
      REQUIRE(op->name == "conv2d");
      REQUIRE(op->output_size == int64_t(shape.p) * shape.q * shape.k);
      REQUIRE(op->ends_in_relu == variant.relu);
      check_convolution(*op, arena, shape, variant);
    }
  }
}

TEST_CASE("cudnn convolution with every mixture of bias, ReLU and gate", "[cudnn]") {
  for (const ConvShape& shape :
       {conv_valid(2, 8, 9, 3, 5, {3, 2}), conv_same(3, 8, 7, 4, 9, {3, 3}, {2, 2}),
        conv_same(2, 7, 6, 3, 5, {2, 4})})
    for (const Variant& variant : all_variants)
      DYNAMIC_SECTION(to_string(shape) << ", " << to_string(variant)) {
        const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.k) : 0);
        const auto op = make_convolution(new_context(), "conv2d", shape, arena.offsets(),
                                         variant.relu, Mode::kTraining);
        check_convolution(*op, arena, shape, variant);
      }
}

TEST_CASE("cudnn layers take smaller batches than the largest", "[cudnn]") {
  const Variant variant{true, true, true};
  const ConvShape shape = conv_same(7, 6, 5, 3, 4, {2, 3});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  const auto op =
      make_convolution(new_context(), "conv2d", shape, arena.offsets(), true, Mode::kTraining);
  for (int n : {7, 1, 3, 7, 2}) check_convolution(*op, arena, with_batch(shape, n), variant);
}

TEST_CASE("cudnn convolution by either search", "[cudnn]") {
  const ConvShape shape = conv_valid(2, 8, 9, 3, 5, {3, 2});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  for (bool timed : {false, true}) {
    INFO("timed " << timed);
    const auto context = new_context({.timed_search = timed});
    const auto op =
        make_convolution(context, "conv2d", shape, arena.offsets(), true, Mode::kTraining);
    REQUIRE(stand_in::calls("cudnnFindConvolutionForwardAlgorithm") == timed);
    REQUIRE(stand_in::calls("cudnnFindConvolutionBackwardDataAlgorithm") == timed);
    REQUIRE(stand_in::calls("cudnnFindConvolutionBackwardFilterAlgorithm") == timed);
    REQUIRE(stand_in::calls("cudnnGetConvolutionForwardAlgorithm_v7") == !timed);
    REQUIRE(stand_in::calls("cudnnGetConvolutionBackwardDataAlgorithm_v7") == !timed);
    REQUIRE(stand_in::calls("cudnnGetConvolutionBackwardFilterAlgorithm_v7") == !timed);
    check_convolution(*op, arena, shape, {true, true, false});
  }
}

TEST_CASE("cudnn convolution without fusion computes the same", "[cudnn]") {
  const ConvShape shape = conv_same(3, 8, 7, 4, 9, {3, 3}, {2, 2});
  const Arena arena(shape.filter_size(), size_t(shape.k));
  const auto context = new_context();
  stand_in::refuse_fusion(true);
  const auto op =
      make_convolution(context, "conv2d", shape, arena.offsets(), true, Mode::kTraining);
  for (int n : {3, 2, 3, 2})
    check_convolution(*op, arena, with_batch(shape, n), {true, true, true});
  REQUIRE(stand_in::calls("cudnnConvolutionForward") == 4);
  REQUIRE(stand_in::calls("cudnnConvolutionBiasActivationForward") == 2);  // asked once per plan
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

void check_dense(LayerOp& op, const Arena& arena, const DenseShape& shape, const Variant& variant) {
  Random random;
  Inputs in;
  in.gate = variant.gate;
  in.x = variant.gate ? random.rectified(shape.input_size()) : random.reals(shape.input_size());
  in.kernel = random.reals(shape.filter_size());
  in.bias = random.reals(variant.bias ? size_t(shape.out) : 0);
  in.dy = random.reals(shape.output_size());
  const Outcome out = run_layer(op, arena, in, shape.n);

  auto y = reference::dense_forward(widen(in.x), widen(in.kernel), widen(in.bias), shape);
  if (variant.relu) y = reference::relu(y);
  auto dx = reference::dense_backward_data(widen(in.dy), widen(in.kernel), shape);
  if (variant.gate) dx = reference::gated(dx, widen(in.x));
  REQUIRE(difference(out.y, y, {shape.n, shape.out}) == "");
  REQUIRE(difference(out.dx, dx, {shape.n, shape.in}) == "");
  REQUIRE(difference(out.kernel_gradient,
                     reference::dense_backward_filter(widen(in.x), widen(in.dy), shape),
                     {shape.in, shape.out}) == "");
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
    DYNAMIC_SECTION(to_string(shape) << ", " << to_string(variant)) {
      const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.out) : 0);
      const auto op =
          make_dense(new_context(), "dense", shape, arena.offsets(), variant.relu, Mode::kTraining);
      REQUIRE(op->output_size == shape.out);
      REQUIRE(op->ends_in_relu == variant.relu);
      check_dense(*op, arena, shape, variant);
    }
  }
}

TEST_CASE("cudnn dense with every mixture of bias, ReLU and gate", "[cudnn]") {
  const DenseShape shape{9, 21, 35};
  for (const Variant& variant : all_variants)
    for (bool fused : {true, false})
      DYNAMIC_SECTION(to_string(variant) << ", fused bias " << fused) {
        const auto context = new_context();
        stand_in::refuse_bias_gradient(!fused);
        const Arena arena(shape.filter_size(), variant.bias ? size_t(shape.out) : 0);
        const auto op =
            make_dense(context, "dense", shape, arena.offsets(), variant.relu, Mode::kTraining);
        check_dense(*op, arena, shape, variant);
        check_dense(*op, arena, {5, shape.in, shape.out}, variant);
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
