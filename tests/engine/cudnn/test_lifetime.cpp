// What surrounds the arithmetic: plans and graphs, modes, lifetimes, failures of every call.
#include "host/engine/backends/cudnn/check.h"
#include "tests/engine/cudnn/fixture.h"

// The module's symbol, linked into this program.
extern "C" const mnist::MNIST_TARGET::CudnnModule cuda_mnist_cudnn_module;

namespace mnist::MNIST_TARGET {
namespace {

constexpr const char* kArch =
    "conv:4x3:same:stride2,pool:2,dropout:0.25,conv:6x2:same:linear:nobias,flatten,dense:9,dense:"
    "10";
constexpr int kBatch = 3;

// Every layer of a model and all its buffers; both passes when run().
class Net {
 public:
  explicit Net(Mode mode, bool fp16 = false)
      : model_(parse_arch(kArch, {9, 8, 2})),
        library_(cuda_mnist_cudnn_module.open({.fp16 = fp16})),
        mode_(mode) {
    for (size_t i = 0; i < model_.layers.size(); ++i)
      if (auto op = library_->layer_op(model_, int(i), kBatch, mode)) ops_.push_back(std::move(op));
    Random random;
    weights_ = upload(random.reals(model_.arena_size));
    gradients_ = DeviceBuffer<float>(model_.arena_size);
    activations_.push_back(upload(random.rectified(kBatch * size_t(model_.input.size()))));
    for (const auto& op : ops_) activations_.emplace_back(kBatch * size_t(op->output_size));
    for (const auto& buffer : activations_) {
      by_.push_back(upload(random.reals(buffer.size(), -0.01f, 0.01f)));
    }
  }

  void run(int n = kBatch) {
    const Pass pass{weights_.data(), nullptr, n, stream_};
    for (size_t i = 0; i < ops_.size(); ++i) {
      ops_[i]->load_weights(pass);
      ops_[i]->forward(activations_[i + 1].data(), activations_[i].data(), pass);
    }
    library_->softmax(activations_.back().data(), activations_.back().data(), n,
                      int(ops_.back()->output_size), stream_);
    if (mode_ == Mode::kInference) return;
    for (size_t i = ops_.size(); i-- > 0;) {
      // The pooling's gradient compares y with x: both are whole again.
      ops_[i]->forward(activations_[i + 1].data(), activations_[i].data(), pass);
      ops_[i]->backward_filter(gradients_.data(), by_[i + 1].data(), activations_[i].data(), pass);
      ops_[i]->store_gradients(gradients_.data(), pass);
      ops_[i]->backward_data(by_[i].data(), by_[i + 1].data(), activations_[i].data(),
                             activations_[i + 1].data(), true, pass);
    }
  }

  const Model& model() const { return model_; }
  const std::vector<std::unique_ptr<LayerOp>>& ops() const { return ops_; }
  std::vector<float> gradients() const { return download(gradients_); }
  void drop_library() { library_.reset(); }

 private:
  const Model model_;
  std::unique_ptr<CudnnLibrary> library_;
  const Mode mode_;
  const Stream stream_;
  std::vector<std::unique_ptr<LayerOp>> ops_;
  DeviceBuffer<float> weights_, gradients_;
  std::vector<DeviceBuffer<float>> activations_, by_;
};

TEST_CASE("cudnn module maps layers to ops", "[cudnn]") {
  const bool fp16 = GENERATE(false, true);
  stand_in::reset();
  REQUIRE(cuda_mnist_cudnn_module.abi == kCudnnModuleAbi);
  REQUIRE(cuda_mnist_cudnn_module.versions().find("cuDNN 9.") == 0);
  {
    Net net(Mode::kTraining, fp16);
    std::vector<std::string> names;
    for (const auto& op : net.ops()) names.push_back(op->name);
    // Dropout is not among them, nor is flatten.
    REQUIRE(names ==
            std::vector<std::string>{"conv2d", "max_pooling2d", "conv2d_1", "dense", "dense_1"});
    REQUIRE(net.ops()[0]->ends_in_relu);
    REQUIRE_FALSE(net.ops()[1]->ends_in_relu);
    REQUIRE_FALSE(net.ops()[2]->ends_in_relu);
    REQUIRE(net.ops()[3]->ends_in_relu);
    REQUIRE_FALSE(net.ops()[4]->ends_in_relu);  // the softmax is not part of it
    REQUIRE(net.ops()[4]->output_size == 10);
    net.run();
    const std::vector<float> gradients = net.gradients();
    size_t parameters = 0;
    for (const Parameter& parameter : net.model().parameters) {
      parameters += parameter.size;
      for (size_t i = 0; i < parameter.size; ++i)
        REQUIRE(std::isfinite(gradients[parameter.offset + i]));
    }
    size_t untouched = 0;
    for (float value : gradients) untouched += std::bit_cast<uint32_t>(value) == UINT32_MAX;
    REQUIRE(untouched + parameters == gradients.size());
    net.run(1);
  }
  INFO(joined(stand_in::faults()) << joined(stand_in::alive()));
  REQUIRE(stand_in::faults().empty());
  REQUIRE(stand_in::alive().empty());
}

TEST_CASE("cudnn ops for inference plan no backward pass", "[cudnn]") {
  stand_in::reset();
  Net net(Mode::kInference, GENERATE(false, true));
  net.run();
  REQUIRE(stand_in::calls("cudnnGetConvolutionBackwardDataAlgorithm_v7") == 0);
  REQUIRE(stand_in::calls("cudnnGetConvolutionBackwardFilterAlgorithm_v7") == 0);
  INFO(joined(stand_in::faults()));
  REQUIRE(stand_in::faults().empty());
}

TEST_CASE("cudnn ops can be recorded into a graph", "[cudnn]") {
  const bool fp16 = GENERATE(false, true);
  stand_in::reset();
  stand_in::refuse_fusion(GENERATE(false, true));
  Net net(Mode::kTraining, fp16);
  net.run();
  stand_in::set_capturing(true);
  net.run();
  INFO(joined(stand_in::faults()));
  REQUIRE(stand_in::faults().empty());
  // A batch never met would have to be planned.
  REQUIRE_THROWS_AS(net.run(kBatch - 1), std::logic_error);
  stand_in::set_capturing(false);
  net.run(kBatch - 1);
  stand_in::set_capturing(true);
  net.run(kBatch - 1);
  stand_in::set_capturing(false);
  REQUIRE(stand_in::faults().empty());
}

TEST_CASE("a convolution that was fused once is not split later", "[cudnn]") {
  stand_in::reset();
  Net net(Mode::kTraining);
  net.run();
  stand_in::refuse_fusion(true);
  try {
    net.run();
    FAIL("the refusal went unnoticed");
  } catch (const CudnnError& error) {
    REQUIRE(error.status() == CUDNN_STATUS_NOT_SUPPORTED_SHAPE);
  }
}

TEST_CASE("cudnn ops repeat to the bit", "[cudnn]") {
  const bool fp16 = GENERATE(false, true);
  stand_in::reset();
  Net first(Mode::kTraining, fp16), second(Mode::kTraining, fp16);
  first.run();
  second.run();
  REQUIRE(same_bits(first.gradients(), second.gradients()));
}

TEST_CASE("the cudnn module computes on the device that it is told", "[cudnn]") {
  stand_in::reset();
  const auto library = cuda_mnist_cudnn_module.open({.device = 2});
  REQUIRE(stand_in::device() == 2);
}

TEST_CASE("cudnn ops outlive their library", "[cudnn]") {
  stand_in::reset();
  const ConvShape shape = conv_valid(2, 5, 5, 2, 3, {3, 3});
  std::unique_ptr<LayerOp> op;
  {
    const Model model = parse_arch("conv:3x3,flatten,dense:10", {5, 5, 2});
    op = cuda_mnist_cudnn_module.open({})->layer_op(model, 0, 2, Mode::kTraining);
  }
  const Arena arena(shape.filter_size(), 3);
  const Stream stream;
  const DeviceBuffer<float> weights = upload(std::vector<float>(64, 1.0f));
  const DeviceBuffer<float> x = upload(std::vector<float>(shape.input_size(), 1.0f));
  const DeviceBuffer<float> y(shape.output_size());
  const Pass pass{weights.data(), nullptr, 2, stream};
  op->load_weights(pass);
  op->forward(y.data(), x.data(), pass);
  INFO(joined(stand_in::faults()));
  REQUIRE(stand_in::faults().empty());
  REQUIRE(download(y)[0] == 19.0f);
}

TEST_CASE("cudnn without a deterministic algorithm says so", "[cudnn]") {
  stand_in::reset();
  stand_in::refuse_determinism(true);
  std::string what;
  try {
    Net net(Mode::kTraining);
  } catch (const CudnnError& error) {
    what = error.what();
    REQUIRE(error.status() == CUDNN_STATUS_NOT_SUPPORTED);
  }
  REQUIRE(what == "conv2d forward: cuDNN has no deterministic float32 algorithm for this shape");
}

// Makes the first call fail, then the second, and so on through construction and both passes.
TEST_CASE("every failing call of cuDNN, cuBLAS and CUDA is noticed, and nothing leaks", "[cudnn]") {
  for (const auto& [fused, fp16] : {std::pair{true, false}, {false, false}, {true, true}}) {
    stand_in::reset();
    stand_in::refuse_bias_gradient(!fused);
    stand_in::refuse_fusion(!fused);
    int failures = 0;
    for (int number = 1;; ++number) {
      std::string what;
      stand_in::fail_call(number);
      try {
        Net net(Mode::kTraining, fp16);
        net.run();
        net.run(2);
      } catch (const CudnnError& error) {
        what = error.what();
      } catch (const CublasError& error) {
        what = error.what();
      } catch (const CudaError& error) {
        what = error.what();
      } catch (const OutOfMemory& error) {
        what = error.what();
      }
      const std::string failed = stand_in::failed_call();
      stand_in::fail_call(0);
      INFO("call " << number << ", " << failed << ": " << what << '\n'
                   << joined(stand_in::faults()) << joined(stand_in::alive()));
      REQUIRE(stand_in::faults().empty());
      REQUIRE(stand_in::alive().empty());
      if (failed.empty()) {
        REQUIRE(what.empty());
        break;
      }
      ++failures;
      REQUIRE(what.find(failed) != std::string::npos);
      // The status by name, and where it happened.
      REQUIRE(what.find("kernels/cudnn/") + what.find("host/engine/") != 2 * std::string::npos);
    }
    REQUIRE(failures > 200);
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
