// In place of the native dropout, whose kernels are not here: the reference's masks, on the host.
#include "host/engine/backends/backends.h"
#include "tests/support/reference.h"

namespace mnist::MNIST_TARGET {
namespace {

constexpr uint32_t kDropoutStreams = 0x30000000;

class HostDropout final : public LayerOp {
 public:
  HostDropout(const Layer& layer, uint64_t seed, uint32_t stream_number)
      : LayerOp(layer.name, layer.output.size(), false, false),
        rate_(float(layer.rate)),
        seed_(seed),
        stream_number_(stream_number) {}

  void forward(float* y, const float* x, const Pass& pass) override { apply(y, x, nullptr, pass); }
  void backward_data(float* dx, const float* dy, const float* x, const float*, bool gate,
                     const Pass& pass) override {
    apply(dx, dy, gate ? x : nullptr, pass);
  }

 private:
  void apply(float* out, const float* in, const float* gate, const Pass& pass) const {
    for (int64_t i = 0; i < pass.n * output_size; ++i) {
      const bool kept = reference::dropout_keeps(uint64_t(i), pass.state->iteration, rate_, seed_,
                                                 stream_number_);
      out[i] = kept && (gate == nullptr || gate[i] > 0) ? in[i] / (1 - rate_) : 0;
    }
  }

  const float rate_;
  const uint64_t seed_;
  const uint32_t stream_number_;
};

}  // namespace

std::unique_ptr<LayerOp> make_dropout_op(const Model& model, int layer, Mode mode, uint64_t seed) {
  const Layer& dropout = model.layers[size_t(layer)];
  if (mode == Mode::kInference || dropout.rate == 0) return nullptr;
  return std::make_unique<HostDropout>(dropout, seed, kDropoutStreams + uint32_t(layer));
}

}  // namespace mnist::MNIST_TARGET
