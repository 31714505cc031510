// The engine's network on the cudnn backend: whole steps, to the bit, and in the order that its two
// streams need.
#include "host/engine/backends/backends.h"
#include "host/engine/backends/cudnn/backend.h"
#include "host/engine/backends/layer_shapes.h"
#include "host/engine/network.h"
#include "tests/engine/cudnn/fixture.h"

extern "C" const mnist::MNIST_TARGET::CudnnModule cuda_mnist_cudnn_module;

namespace mnist::MNIST_TARGET {
namespace {

// In place of the native dropout, whose kernels are not here: doubles, both ways.
class Doubling final : public LayerOp {
 public:
  explicit Doubling(const Layer& layer) : LayerOp(layer.name, layer.output.size(), false, false) {}
  void forward(float* y, const float* x, const Pass& pass) override {
    for (int64_t i = 0; i < pass.n * output_size; ++i) y[i] = 2 * x[i];
  }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    for (int64_t i = 0; i < pass.n * output_size; ++i) dx[i] = gate && !(x[i] > 0) ? 0 : 2 * dy[i];
  }
};

using reference::Tensor;

// A step by the reference.
struct Step {
  Tensor logits, gradients;
};
Step reference_step(const Model& model, const Tensor& weights, const Tensor& input,
                    const Tensor& dlogits, int n) {
  const auto parameter = [&](size_t layer, const char* name) {
    const Parameter* p = model.find(int(layer), name);
    if (p == nullptr) return Tensor{};
    const auto begin = weights.begin() + std::ptrdiff_t(p->offset);
    return Tensor(begin, begin + std::ptrdiff_t(p->size));
  };
  std::vector<Tensor> x{input};
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const Layer& layer = model.layers[i];
    reference::Sums y{x.back(), {}, 1};
    const Tensor kernel = parameter(i, "kernel"), bias = parameter(i, "bias");
    if (layer.kind == LayerKind::kConv2D)
      y = reference::conv2d_forward(x.back(), kernel, bias, conv_shape(layer, n));
    if (layer.kind == LayerKind::kMaxPool2D)
      y.value = reference::maxpool2d_forward(x.back(), pool_shape(layer, n)).y;
    if (layer.kind == LayerKind::kDense)
      y = reference::dense_forward(x.back(), kernel, bias,
                                   {n, int(layer.input.size()), layer.units});
    if (layer.kind == LayerKind::kDropout)
      for (double& value : y.value) value *= 2;
    if (layer.activation == Activation::kRelu) y = reference::relu(y);
    x.push_back(y.value);
  }
  Step step{x.back(), Tensor(model.arena_size, 0.0)};
  Tensor dy = dlogits;
  for (size_t i = model.layers.size(); i-- > 0;) {
    const Layer& layer = model.layers[i];
    if (layer.activation == Activation::kRelu) dy = reference::gated({dy, dy, 1}, x[i + 1]).value;
    const auto store = [&](const char* name, const Tensor& values) {
      if (const Parameter* p = model.find(int(i), name))
        std::copy(values.begin(), values.end(), step.gradients.begin() + std::ptrdiff_t(p->offset));
    };
    const Tensor kernel = parameter(i, "kernel");
    if (layer.kind == LayerKind::kConv2D) {
      const ConvShape shape = conv_shape(layer, n);
      store("bias", reference::bias_backward(dy, int64_t(n) * shape.p * shape.q, shape.k).value);
      store("kernel", reference::conv2d_backward_filter(x[i], dy, shape).value);
      dy = reference::conv2d_backward_data(dy, kernel, shape).value;
    }
    if (layer.kind == LayerKind::kMaxPool2D) {
      const PoolShape shape = pool_shape(layer, n);
      dy =
          reference::maxpool2d_backward(dy, reference::maxpool2d_forward(x[i], shape).argmax, shape)
              .value;
    }
    if (layer.kind == LayerKind::kDense) {
      const DenseShape shape{n, int(layer.input.size()), layer.units};
      store("bias", reference::bias_backward(dy, n, shape.out).value);
      store("kernel", reference::dense_backward_filter(x[i], dy, shape).value);
      dy = reference::dense_backward_data(dy, kernel, shape).value;
    }
    if (layer.kind == LayerKind::kDropout)
      for (double& value : dy) value *= 2;
  }
  return step;
}

TEST_CASE("a network on the cudnn backend takes whole steps", "[cudnn]") {
  const std::string arch =
      GENERATE(std::string(kDefaultArch),
               "conv:4x3:same:stride2,pool:2,dropout:0.25,conv:6x2:same:linear:nobias,flatten,"
               "dense:9:nobias,"
               "dense:10",
               "pool:3x2:same:stride2,conv:3x2x4,conv:4x3:same,pool:2:same,flatten,dense:10",
               "dropout:0.5,flatten,dense:10");
  DYNAMIC_SECTION(arch) {
    stand_in::reset();
    constexpr int kBatch = 3;
    const Model model = parse_arch(arch, arch == kDefaultArch ? kMnistExtent : Extent{11, 10, 2});
    {
      const auto backend = make_cudnn_backend(cuda_mnist_cudnn_module.open({}));
      Network training(*backend, model, kBatch, Mode::kTraining, 0);
      Network inference(*backend, model, kBatch, Mode::kInference, 0);
      const Stream stream;
      const StepState state{};
      Random random;
      // As the engine does before it records the step: memory that nobody has written yet would be
      // a fault here.
      const DeviceBuffer<float> nothing = upload(std::vector<float>(model.arena_size));
      const DeviceBuffer<float> ignored(model.arena_size);
      std::fill_n(training.input(), kBatch * size_t(model.input.size()), 0.0f);
      std::fill_n(training.dlogits(), kBatch * 10, 0.0f);
      training.forward({nothing.data(), &state, kBatch, stream});
      training.backward(ignored.data(), {nothing.data(), &state, kBatch, stream});
      for (int step = 0; step < 2; ++step) {
        // Whole numbers, small enough that float32 gets every sum exactly.
        const auto h_weights = random.whole(model.arena_size, -1, 1);
        const auto h_input = random.whole(kBatch * size_t(model.input.size()), 0, 1);
        const auto h_dlogits = random.whole(kBatch * 10, -1, 1);
        const DeviceBuffer<float> weights = upload(h_weights);
        const DeviceBuffer<float> gradients = upload(std::vector<float>(model.arena_size));
        std::copy(h_input.begin(), h_input.end(), training.input());
        std::copy(h_dlogits.begin(), h_dlogits.end(), training.dlogits());
        stand_in::set_capturing(true);
        const float* logits = training.forward({weights.data(), &state, kBatch, stream});
        training.backward(gradients.data(), {weights.data(), &state, kBatch, stream});
        stand_in::set_capturing(false);
        stream.synchronize();
        INFO(joined(stand_in::faults()));
        REQUIRE(stand_in::faults().empty());
        REQUIRE(stand_in::unfinished() == 0);  // the other stream joined this one
        const Step want =
            reference_step(model, widen(h_weights), widen(h_input), widen(h_dlogits), kBatch);
        REQUIRE(inequality(std::vector<float>(logits, logits + kBatch * 10), want.logits,
                           {kBatch, 10}) == "");
        REQUIRE(inequality(download(gradients), want.gradients, {int64_t(model.arena_size)}) == "");

        if (arch.find("dropout") != std::string::npos) continue;  // there is none at inference
        for (int n : {kBatch, 1}) {
          std::copy(h_input.begin(), h_input.end(), inference.input());
          const float* same = inference.forward({weights.data(), nullptr, n, stream});
          REQUIRE(stand_in::faults().empty());
          REQUIRE(std::equal(same, same + n * 10, want.logits.begin()));
        }
      }
    }
    INFO(joined(stand_in::faults()) << joined(stand_in::alive()));
    REQUIRE(stand_in::faults().empty());
    REQUIRE(stand_in::alive().empty());
  }
}

}  // namespace

std::unique_ptr<LayerOp> make_dropout_op(const Model& model, int layer, Mode mode, uint64_t) {
  if (mode == Mode::kInference) return nullptr;
  return std::make_unique<Doubling>(model.layers[size_t(layer)]);
}

}  // namespace mnist::MNIST_TARGET
