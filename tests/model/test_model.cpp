// Layers: parsing, shapes as Keras infers them, names, arena, and what is refused.
#include "host/model/model.h"

#include <algorithm>
#include <limits>

#include "host/error.h"
#include "tests/support/catch.h"
#include "tests/support/random.h"

namespace mnist {
namespace {

Model digits(const std::string& layers) {
  return parse_arch(layers + ",flatten,dense:10");
}

std::string refusal(const std::string& arch, const Extent& input = kMnistExtent) {
  try {
    parse_arch(arch, input);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kUsage);
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  return "accepted";
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("the default model is the Keras script's", "[model]") {
  const Model model = parse_arch(kDefaultArch);
  const char* names[] = {"conv2d",  "max_pooling2d", "conv2d_1", "max_pooling2d_1",
                         "flatten", "dense",         "dense_1"};
  const Extent outputs[] = {{26, 26, 32}, {13, 13, 32}, {11, 11, 64}, {5, 5, 64},
                            {1, 1, 1600}, {1, 1, 128},  {1, 1, 10}};
  REQUIRE(model.layers.size() == 7);
  for (size_t i = 0; i < 7; ++i) {
    CHECK(model.layers[i].name == names[i]);
    CHECK(model.layers[i].output == outputs[i]);
    CHECK(model.layers[i].input == (i == 0 ? kMnistExtent : outputs[i - 1]));
  }
  CHECK(model.layers[0].activation == Activation::kRelu);
  CHECK(model.layers[5].activation == Activation::kRelu);
  CHECK(model.layers[6].activation == Activation::kSoftmax);
  CHECK(model.parameter_count() == 225'034);
  CHECK(model.classes() == 10);
  CHECK(arch_string(model) == kDefaultArch);
}

TEST_CASE("shapes are Keras'", "[model]") {
  struct Case {
    int n, window, stride;
    Padding padding;
    int output;
  };
  // Outputs of keras.layers.Conv2D(1, window, strides=stride, padding=...) of Keras 3.15.
  const Case cases[] = {{28, 3, 1, Padding::kValid, 26}, {28, 3, 1, Padding::kSame, 28},
                        {28, 3, 2, Padding::kValid, 13}, {28, 3, 2, Padding::kSame, 14},
                        {28, 2, 2, Padding::kValid, 14}, {28, 2, 2, Padding::kSame, 14},
                        {28, 5, 3, Padding::kValid, 8},  {28, 5, 3, Padding::kSame, 10},
                        {7, 2, 2, Padding::kValid, 3},   {7, 2, 2, Padding::kSame, 4},
                        {7, 3, 3, Padding::kValid, 2},   {7, 3, 3, Padding::kSame, 3},
                        {5, 4, 1, Padding::kValid, 2},   {5, 4, 1, Padding::kSame, 5},
                        {5, 4, 2, Padding::kValid, 1},   {5, 4, 2, Padding::kSame, 3},
                        {6, 1, 4, Padding::kValid, 2},   {6, 1, 4, Padding::kSame, 2},
                        {3, 3, 5, Padding::kValid, 1},   {3, 3, 5, Padding::kSame, 1},
                        {28, 28, 1, Padding::kValid, 1}, {28, 28, 1, Padding::kSame, 28},
                        {4, 5, 2, Padding::kSame, 2}};
  for (const LayerKind kind : {LayerKind::kConv2D, LayerKind::kMaxPool2D})
    for (const Case& c : cases) {
      if (kind == LayerKind::kMaxPool2D && c.window > 16) continue;
      INFO(c.n << " window " << c.window << " stride " << c.stride);
      Layer layer, flatten, dense;
      layer.kind = kind;
      layer.units = 1;
      layer.window_h = layer.window_w = c.window;
      layer.stride_h = layer.stride_w = c.stride;
      layer.padding = c.padding;
      dense.kind = LayerKind::kDense;
      dense.units = 2;
      dense.activation = Activation::kSoftmax;
      const Model model = make_model({c.n, c.n, 1}, {layer, flatten, dense});
      const Layer& inferred = model.layers[0];
      CHECK(inferred.output == Extent{c.output, c.output, 1});
      const int total = std::max((c.output - 1) * c.stride + c.window - c.n, 0);
      CHECK(inferred.pad_h == (c.padding == Padding::kSame ? total / 2 : 0));
      CHECK(inferred.pad_w == inferred.pad_h);
    }
}

TEST_CASE("options of layers", "[model]") {
  const Model model = digits(
      "conv:16x5x3:same:stride2x1:nobias,pool:3x2:same:stride1,dropout:0.25,"
      "conv:4x1:linear:valid:stride3");
  const Layer& conv = model.layers[0];
  CHECK(conv.units == 16);
  CHECK((conv.window_h == 5 && conv.window_w == 3));
  CHECK((conv.stride_h == 2 && conv.stride_w == 1));
  CHECK((conv.pad_h == 1 && conv.pad_w == 1));
  CHECK(conv.padding == Padding::kSame);
  CHECK_FALSE(conv.use_bias);
  CHECK(conv.output == Extent{14, 28, 16});
  CHECK(model.find(0, "kernel")->shape == std::vector<int64_t>{5, 3, 1, 16});
  CHECK(model.find(0, "bias") == nullptr);
  CHECK((model.layers[1].stride_h == 1 && model.layers[1].stride_w == 1));
  CHECK(model.layers[2].rate == 0.25);
  CHECK(model.layers[3].activation == Activation::kLinear);
  CHECK(model.layers[3].stride_h == 3);
  CHECK(digits("pool:3x2").layers[0].stride_h == 3);
  CHECK(digits("pool:3x2").layers[0].stride_w == 2);
}

// Model files of earlier versions hold it, and a run is resumed only if it is the same.
TEST_CASE("a rate is written in the shorter notation", "[model]") {
  for (const char* rate : {"0", "0.5", "0.25", "0.001", "1e-04", "1.5e-05", "0.123456789"})
    CHECK(arch_string(digits(std::string("dropout:") + rate)) ==
          std::string("dropout:") + rate + ",flatten,dense:10");
  CHECK(arch_string(digits("dropout:0.0001")) == "dropout:1e-04,flatten,dense:10");
}

TEST_CASE("arch_string gives back what parse_arch reads", "[model]") {
  Random random;
  for (int i = 0; i < 300; ++i) {
    std::string arch;
    for (int n = random.integer(0, 3); n > 0; --n) {
      arch += random.integer(0, 1) ? "conv:" + std::to_string(random.integer(1, 9)) + "x" : "pool:";
      arch += std::to_string(random.integer(1, 3));
      if (random.integer(0, 1)) arch += "x" + std::to_string(random.integer(1, 3));
      if (random.integer(0, 1)) arch += ":same";
      if (random.integer(0, 1)) arch += ":stride" + std::to_string(random.integer(1, 2)) + "x1";
      if (arch.find("conv", arch.rfind(',') + 1) != arch.npos && random.integer(0, 1))
        arch += ":nobias";
      arch += random.integer(0, 1) ? ",dropout:0.1," : ",";
    }
    arch += "flatten,dense:7:linear,dropout:0.5,dense:3,dense:10:nobias";
    const Model model = parse_arch(arch);
    const std::string text = arch_string(model);
    INFO(arch << " gave " << text);
    const Model again = parse_arch(text);
    CHECK(arch_string(again) == text);
    CHECK(summary(again) == summary(model));
    CHECK(again.arena_size == model.arena_size);
    for (size_t k = 0; k < model.layers.size(); ++k) {
      CHECK(again.layers[k].activation == model.layers[k].activation);
      CHECK(again.layers[k].pad_h == model.layers[k].pad_h);
      CHECK(again.layers[k].stride_w == model.layers[k].stride_w);
    }
  }
}

TEST_CASE("tensors lie in the arena one after another, on 16 bytes", "[model]") {
  const Model model = digits("conv:3x3,conv:5x2:nobias,dropout:0.1");
  size_t end = 0;
  for (const Parameter& p : model.parameters) {
    CHECK(p.offset % 4 == 0);
    CHECK(p.offset >= end);
    CHECK(p.offset < end + 4);
    size_t size = 1;
    for (const int64_t s : p.shape) size *= size_t(s);
    CHECK(p.size == size);
    end = p.offset + p.size;
  }
  CHECK(model.arena_size % 4 == 0);
  CHECK((model.arena_size >= end && model.arena_size < end + 4));
  CHECK(model.parameters.size() == 5);
  CHECK(model.parameters[0].name == "kernel");
  CHECK(model.parameters[1].name == "bias");
  CHECK(model.find(4, "kernel")->shape == std::vector<int64_t>{model.layers[4].input.c, 10});
}

TEST_CASE("names are Keras' defaults, around those that are given", "[model]") {
  Layer flatten, dense, named, last;
  dense.kind = named.kind = last.kind = LayerKind::kDense;
  dense.units = named.units = last.units = 2;
  last.activation = Activation::kSoftmax;
  named.name = "dense_1";
  const Model model = make_model({1, 1, 3}, {flatten, dense, named, dense, last});
  const char* names[] = {"flatten", "dense", "dense_1", "dense_2", "dense_3"};
  for (size_t i = 0; i < 5; ++i) CHECK(model.layers[i].name == names[i]);

  for (const char* bad : {"a/b", "a b", "\n", "d\xc3\xa9", ".", "..", "top_level_model_weights"}) {
    named.name = bad;
    CHECK_THROWS_AS(make_model({1, 1, 3}, {dense, named, last}), Error);
  }
  named.name = "twice";
  CHECK_THROWS_AS(make_model({1, 1, 3}, {named, named, last}), Error);
  named.name = std::string(300, 'n');
  CHECK_THROWS_AS(make_model({1, 1, 3}, {named, last}), Error);
}

TEST_CASE("what does not fit is refused by name and with a cure", "[model]") {
  CHECK(refusal("conv:4x20,pool:2,conv:2x5,flatten,dense:10") ==
        "conv2d_1: a 5x5 window does not fit its 4x4 input; use :same padding or a smaller window");
  CHECK(
      refusal("conv:4x3,dense:10") ==
      "dense: a dense layer needs a flat vector, but its input is 26x26x4; insert a flatten layer "
      "before it");
  CHECK_THAT(refusal("flatten,pool:2,dense:10"), Contains("max_pooling2d: needs an image"));
  CHECK_THAT(refusal("flatten,conv:2x1,dense:10"), Contains("conv2d: needs an image"));
  CHECK_THAT(refusal("flatten,dense:10,dropout:0.5"), Contains("dropout: the last layer must be"));
  CHECK_THAT(refusal("flatten"), Contains("end the model with dense:10"));
  CHECK_THAT(refusal("conv:10x28"), Contains("conv2d: the last layer must be"));
  CHECK_THAT(refusal("conv"), Contains("write conv:FILTERSxWINDOW"));
  CHECK_THAT(refusal("pool:2:nobias"), Contains("conv and pool take same"));
  CHECK_THAT(refusal("relu"), Contains("there are conv, pool, flatten, dropout and dense"));
  CHECK_THAT(refusal("pool:29,flatten,dense:10"), Contains("at most 256 positions"));
  CHECK_THAT(refusal("pool:17:same,flatten,dense:10"), Contains("at most 256 positions"));
}

TEST_CASE("texts that are not an architecture", "[model]") {
  for (const char* arch : {"",
                           ",",
                           "flatten,,dense:10",
                           "flatten,dense:10,",
                           "conv",
                           "conv:",
                           "conv:3",
                           "conv:3x",
                           "conv:x3",
                           "conv:3x3x3x3",
                           "conv:0x3",
                           "conv:-1x3",
                           "conv:3x0",
                           "conv:+3x3",
                           "conv:3 x3",
                           "conv:3x3:",
                           "conv:3x3:stride",
                           "conv:3x3:stride0",
                           "conv:3x3:stride1x2x3",
                           "conv:3x3:strides2",
                           "conv:3x3:SAME",
                           "pool",
                           "pool:2:nobias",
                           "pool:2:linear",
                           "pool:2x2x2",
                           "flatten:1",
                           "flatten:same",
                           "dropout",
                           "dropout:",
                           "dropout:1",
                           "dropout:-0.1",
                           "dropout:nan",
                           "dropout:inf",
                           "dropout:0,5",
                           "dropout:0.5x",
                           "dropout:0.5:same",
                           "dense",
                           "dense:0",
                           "dense:1x1",
                           "dense:10:same",
                           "dense:4294967306",
                           "dense:1e3",
                           "softmax",
                           "Conv:3x3",
                           " conv:3x3"}) {
    INFO(arch);
    CHECK_THAT(refusal(arch), Contains("--arch"));
    CHECK(refusal(std::string(arch) + ",flatten,dense:10") != "accepted");
  }
}

TEST_CASE("absurd sizes are refused before anything overflows", "[model]") {
  for (const char* arch :
       {"flatten,dense:2147483647,dense:10", "flatten,dense:65536,dense:65536,dense:10",
        "conv:2147483647x1,flatten,dense:10", "conv:64x2147483647:same,flatten,dense:10",
        "conv:400000x1,conv:400000x1,flatten,dense:10", "flatten,dense:342000,dense:10"}) {
    INFO(arch);
    CHECK_THAT(refusal(arch), Contains("2^28"));
  }
  CHECK_THAT(refusal("flatten,dense:10", {2147483647, 2147483647, 2147483647}), Contains("2^28"));
  CHECK_THROWS_AS(make_model({0, 1, 1}, parse_arch("flatten,dense:10").layers), Error);
  std::string deep = "flatten";
  for (int i = 0; i < 1000; ++i) deep += ",dense:1";
  CHECK_THAT(refusal(deep), Contains("more than 1000 layers"));
  // A stride beyond the input leaves one position.
  CHECK(digits("conv:2x3:stride2147483647").layers[0].output == Extent{1, 1, 2});
  CHECK(digits("conv:2x3:same:stride2147483647").layers[0].output == Extent{1, 1, 2});
}

TEST_CASE("make_model checks what parse_arch cannot say", "[model]") {
  const std::vector<Layer> good = parse_arch("conv:2x3,pool:2,dropout:0.5,flatten,dense:10").layers;
  const auto refused = [&](size_t layer, auto change) {
    std::vector<Layer> layers = good;
    change(layers[layer]);
    CHECK_THROWS_AS(make_model(kMnistExtent, layers), Error);
  };
  refused(0, [](Layer& l) { l.activation = Activation::kSoftmax; });
  refused(0, [](Layer& l) { l.units = 0; });
  refused(0, [](Layer& l) { l.window_w = 0; });
  refused(0, [](Layer& l) { l.stride_h = -1; });
  refused(1, [](Layer& l) { l.activation = Activation::kRelu; });
  refused(1, [](Layer& l) { l.window_h = -2; });
  refused(2, [](Layer& l) { l.rate = 1; });
  refused(2, [](Layer& l) { l.rate = std::numeric_limits<double>::quiet_NaN(); });
  refused(4, [](Layer& l) { l.activation = Activation::kRelu; });
  refused(4, [](Layer& l) { l.units = -1; });
  CHECK_THROWS_AS(make_model(kMnistExtent, {}), Error);
}

TEST_CASE("the summary lists what Keras' summary lists", "[model]") {
  const std::string text = summary(parse_arch(kDefaultArch));
  CHECK_THAT(text, Contains("conv2d_1 (Conv2D)"));
  CHECK_THAT(text, Contains("(None, 11, 11, 64)"));
  CHECK_THAT(text, Contains("18,496"));
  CHECK_THAT(text, Contains("(None, 1600)"));
  CHECK_THAT(text, Contains("204,928"));
  CHECK_THAT(text, Contains("Total params: 225,034"));
}

}  // namespace mnist
