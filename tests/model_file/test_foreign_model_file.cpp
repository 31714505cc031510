// Model files of others: every spelling of Keras 2 and 3, what is not supported, and files that are
// damaged or made to do harm.
#include <array>
#include <limits>
#include <utility>

#include "host/model_file/keras_config.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"
#include "tests/support/keras_file.h"
#include "tests/support/model_cases.h"

namespace mnist {
namespace {

using namespace test;
using Catch::Matchers::Contains;
using h5::Id;

// What read_model_file() makes of a file with these bytes.
ModelFile read(const Image& image) {
  const TemporaryDirectory dir;
  std::ofstream(dir / "m.h5", std::ios::binary)
      .write(reinterpret_cast<const char*>(image.data()), std::streamsize(image.size()));
  return read_model_file(dir / "m.h5");
}

std::string refusal(const Image& image) {
  try {
    read(image);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kBadInput);
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  return "accepted";
}

void check_standard(const ModelFile& file) {
  CHECK(arch_string(file.model) == "conv:2x3,flatten,dense:3");
  CHECK(file.model.input == Extent{4, 4, 1});
  std::vector<float> weights;
  for (const Parameter& p : file.model.parameters)
    weights.insert(weights.end(), file.weights.begin() + ptrdiff_t(p.offset),
                   file.weights.begin() + ptrdiff_t(p.offset + p.size));
  CHECK(same_bits(weights, keras_weights()));
  CHECK_FALSE(file.state);
  CHECK(file.checksum.empty());
  CHECK_FALSE(file.checksum_verified);
}

// ---- JSON ---------------------------------------------------------------------------------------

// A Sequential model of the layers in the text.
std::string sequential(const std::string& layers) {
  return R"({"class_name":"Sequential","config":{"name":"s","layers":[{"class_name":"InputLayer",)"
         R"("config":{"batch_shape":[null,28,28,1]}},)" +
         layers + "]}}";
}

std::string layer(const std::string& type, const std::string& name, const std::string& keys = "") {
  return R"({"class_name":")" + type + R"(","config":{"name":")" + name + R"(")" +
         (keys.empty() ? "" : "," + keys) + "}}";
}

const std::string kConv = layer("Conv2D", "c", R"("filters":4,"kernel_size":[3,3])");
const std::string kFlatten = layer("Flatten", "f");
const std::string kDense = layer("Dense", "d", R"("units":10)");

std::string arch_of(const std::string& layers) {
  try {
    return arch_string(parse_model_config(sequential(layers)).model);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kBadInput);
    return error.what();
  }
}

}  // namespace

// ---- what Keras writes --------------------------------------------------------------------------

TEST_CASE("strings of every kind are read", "[foreign_model_file]") {
  for (const Strings strings :
       {Strings::kVariableUtf8, Strings::kVariableAscii, Strings::kNullPadded,
        Strings::kNullTerminated, Strings::kSpacePadded}) {
    INFO(int(strings));
    const ModelFile file = read(keras_file({.strings = strings}).image());
    check_standard(file);
    CHECK(file.writer == "Keras 3.15.1");
    CHECK(file.warnings.empty());
  }
}

TEST_CASE("weight names of every Keras are read", "[foreign_model_file]") {
  for (const char* name : {"%/kernel:0", "kernel", "sequential/%/kernel", "scope/a/b/%/kernel:0"}) {
    INFO(name);
    check_standard(read(keras_file({.config = kKeras2Config, .weight_name = name}).image()));
  }
}

TEST_CASE("floating-point numbers of every kind are read", "[foreign_model_file]") {
  const Id half(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "copy a type");
  REQUIRE(H5Tset_fields(half, 15, 10, 5, 0, 10) >= 0);
  REQUIRE(H5Tset_size(half, 2) >= 0);
  REQUIRE(H5Tset_ebias(half, 15) >= 0);
  for (const hid_t type : {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE, hid_t(half)})
    check_standard(read(keras_file({.float_type = type}).image()));
  CHECK_THAT(refusal(keras_file({.float_type = H5T_STD_I32LE}).image()),
             Contains("conv2d: kernel does not consist of floating-point numbers"));
}

TEST_CASE("lists split over several attributes are read", "[foreign_model_file]") {
  check_standard(read(keras_file({.split_lists = true}).image()));
}

TEST_CASE("compressed weights are read", "[foreign_model_file]") {
  H5Builder file = keras_file();
  const std::vector<float> all = keras_weights();
  file.remove(kDenseKernel);
  const Id creation = h5::property_list(H5P_DATASET_CREATE);
  const hsize_t chunk[] = {4, 2};
  REQUIRE(H5Pset_chunk(creation, 2, chunk) >= 0);
  REQUIRE(H5Pset_shuffle(creation) >= 0);
  REQUIRE(H5Pset_deflate(creation, 9) >= 0);
  REQUIRE(H5Pset_fletcher32(creation) >= 0);
  file.dataset(kDenseKernel, {8, 3}, {all.begin() + 20, all.begin() + 44}, H5T_IEEE_F32LE,
               creation);
  check_standard(read(file.image()));
}

TEST_CASE("spellings of a layer's configuration", "[keras_config]") {
  CHECK(arch_of(kConv + "," + kFlatten + "," + kDense) == "conv:4x3:linear,flatten,dense:10");
  // One number for two; null for the default; a pool's window as default stride.
  CHECK(arch_of(layer("Conv2D", "c",
                      R"("filters":4,"kernel_size":5,"strides":null,)"
                      R"("padding":"same","use_bias":false,"activation":null)") +
                "," + layer("MaxPool2D", "p", R"("pool_size":3,"strides":null)") + "," + kFlatten +
                "," + kDense) == "conv:4x5:same:linear:nobias,pool:3,flatten,dense:10");
  CHECK(arch_of(layer("MaxPooling2D", "p") + "," + kFlatten + "," + kDense) ==
        "pool:2,flatten,dense:10");
  CHECK(arch_of(kFlatten + "," + layer("Dropout", "o", R"("rate":0,"seed":3,"noise_shape":null)") +
                "," + kDense) == "flatten,dropout:0,dense:10");
  for (const char* activation :
       {R"("relu")", R"({"class_name":"function","config":"relu","registered_name":"relu"})",
        R"({"class_name":"relu"})",
        R"({"module":"keras.layers","class_name":"ReLU","config":{"max_value":null,)"
        R"("negative_slope":0.0,"threshold":0.0},"registered_name":null})"})
    CHECK(arch_of(kFlatten + "," +
                  layer("Dense", "h", R"("units":5,"activation":)" + std::string(activation)) +
                  "," + kDense) == "flatten,dense:5,dense:10");
}

TEST_CASE("activation layers become part of the layer before", "[keras_config]") {
  const std::string relu = layer("ReLU", "r", R"("max_value":null,"negative_slope":0.0)");
  const std::string pool = layer("MaxPooling2D", "p", R"("pool_size":[2,2])");
  const std::string softmax = layer("Softmax", "s", R"("axis":-1)");
  const std::string as_layer = layer("Activation", "a", R"("activation":"relu")");
  for (const std::string& activation : {relu, as_layer}) {
    CHECK(arch_of(kConv + "," + activation + "," + kFlatten + "," + kDense) ==
          "conv:4x3,flatten,dense:10");
    CHECK(arch_of(kConv + "," + pool + "," + activation + "," + kFlatten + "," + kDense) ==
          "conv:4x3,pool:2,flatten,dense:10");
  }
  CHECK(arch_of(kFlatten + "," + kDense + "," + softmax) == "flatten,dense:10");
  CHECK(arch_of(kFlatten + "," + kDense + "," +
                layer("Activation", "a", R"("activation":"softmax")")) == "flatten,dense:10");
  CHECK(parse_model_config(sequential(kFlatten + "," + kDense + "," + softmax)).warnings.empty());

  CHECK_THAT(arch_of(relu + "," + kFlatten + "," + kDense), Contains("r: an activation layer"));
  CHECK_THAT(arch_of(kFlatten + "," + kDense + "," + softmax + "," + softmax),
             Contains("softmax after softmax"));
  CHECK_THAT(arch_of(kFlatten + "," + kDense + "," + layer("Dropout", "o", R"("rate":0.1)") + "," +
                     softmax),
             Contains("s: an activation layer"));
}

TEST_CASE("liberties taken with a model are told", "[keras_config]") {
  const ConfiguredModel linear = parse_model_config(sequential(kFlatten + "," + kDense));
  REQUIRE(linear.warnings.size() == 1);
  CHECK_THAT(linear.warnings[0], Contains("d has no activation; softmax is assumed"));
  CHECK(linear.model.layers[1].activation == Activation::kSoftmax);
  const ConfiguredModel scaled = parse_model_config(
      sequential(layer("Rescaling", "x", R"("scale":0.00392156862745098,"offset":0.0)") + "," +
                 kFlatten + "," + layer("Dense", "d", R"("units":10,"activation":"softmax")")));
  REQUIRE(scaled.warnings.size() == 1);
  CHECK_THAT(scaled.warnings[0], Contains("x is left out"));
}

TEST_CASE("input shapes of every spelling", "[keras_config]") {
  const auto input = [](const std::string& config) {
    return parse_model_config(config).model.input;
  };
  const std::string layers = kFlatten + "," + kDense + "]";
  const auto with_input = [&](const std::string& keys) {
    return R"({"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{)" +
           keys + "}}," + layers + "}}";
  };
  CHECK(input(with_input(R"("batch_shape":[null,28,28,1])")) == kMnistExtent);
  CHECK(input(with_input(R"("batch_input_shape":[32,28,28,3])")) == Extent{28, 28, 3});
  CHECK(input(with_input(R"("batch_shape":[null,28,28])")) == kMnistExtent);
  CHECK(input(with_input(R"("batch_shape":[null,784])")) == Extent{1, 1, 784});
  CHECK(input(R"({"class_name":"Sequential","config":{"layers":[)" + layers +
              R"(,"build_input_shape":{"class_name":"TensorShape","items":[null,28,28,1]}}})") ==
        kMnistExtent);
  // Keras 2.2.2 and older: the list alone.
  CHECK(input(R"({"class_name":"Sequential","config":[)" +
              layer("Flatten", "f", R"("batch_input_shape":[null,28,28,1])") + "," + kDense +
              "]}") == kMnistExtent);
  for (const char* keys : {R"("name":"i")", R"("batch_shape":[null])", R"("batch_shape":[null,0])",
                           R"("batch_shape":[null,null,28,1])", R"("batch_shape":[1,2,3,4,5])",
                           R"("batch_shape":[null,28.5,28,1])", R"("batch_shape":[null,-1])",
                           R"("batch_shape":[null,99999999999])"}) {
    INFO(keys);
    CHECK_THROWS_AS(parse_model_config(with_input(keys)), Error);
  }
}

TEST_CASE("what is not supported is refused by the layer's name", "[keras_config]") {
  const auto conv = [](const std::string& keys) {
    return layer("Conv2D", "c", R"("filters":4,"kernel_size":[3,3],)" + keys) + "," + kFlatten +
           "," + kDense;
  };
  const std::pair<std::string, const char*> cases[] = {
      {layer("BatchNormalization", "bn"), "layer bn is a BatchNormalization"},
      {layer("Reshape", "r", R"("target_shape":[28,28,1])"), "layer r is a Reshape"},
      {layer("Lambda", "evil"), "layer evil is a Lambda"},
      {layer("Sequential", "inner"), "layer inner is a Sequential"},
      {conv(R"("activation":"tanh")"), "c: activation tanh"},
      {conv(R"("activation":{"class_name":"ReLU","config":{"max_value":6.0}})"),
       "c: a ReLU with max"},
      {conv(R"("activation":7)"), "c: activation ?"},
      {conv(R"("padding":"causal")"), "c: padding causal"},
      {conv(R"("data_format":"channels_first")"), "c: data_format channels_first"},
      {conv(R"("dilation_rate":[2,2])"), "c: dilation_rate"},
      {conv(R"("groups":2)"), "c: groups"},
      {conv(R"("strides":[1,2,3])"), "c: strides does not have two"},
      {conv(R"("strides":[0,1])"), "c: strides is not a whole"},
      {conv(R"("strides":"2")"), "c: strides is not a whole"},
      {conv(R"("use_bias":"yes")"), "c: use_bias"},
      {layer("Conv2D", "c", R"("kernel_size":[3,3])"), "c: filters"},
      {layer("Conv2D", "c", R"("filters":3)"), "c: kernel_size is missing"},
      {layer("Conv2D", "c", R"("filters":1e3,"kernel_size":3)"), "c: filters"},
      {layer("Dense", "d", R"("units":-3)"), "d: units"},
      {layer("Dense", "d", R"("units":10,"quantization_config":{"a":1})"), "d: quantised"},
      {layer("Dropout", "o"), "o: rate"},
      {kFlatten + "," + layer("Dropout", "o", R"("rate":1.5)") + "," + kDense, "o: a dropout rate"},
      {layer("Dropout", "o", R"("rate":0.5,"noise_shape":[1,2])"), "o: noise_shape"},
      {kConv + "," + layer("LeakyReLU", "l"), "layer l is a LeakyReLU"},
      {kConv + "," + layer("ReLU", "r", R"("max_value":6.0)"), "r: a ReLU with max_value"},
      {kConv + "," + layer("ReLU", "r", R"("negative_slope":0.1)"),
       "r: a ReLU with negative_slope"},
      {kFlatten + "," + kDense + "," + layer("Softmax", "s", R"("axis":1)"), "s: Softmax"},
      {layer("Rescaling", "x", R"("scale":2.0,"offset":0.0)"), "x: Rescaling"},
      {kDense, "d: a dense layer needs a flat vector"},
      {kFlatten, "f: the last layer must be"},
      {layer("Flatten", "f", R"("data_format":"channels_first")"), "f: data_format"},
      {kFlatten + "," + kDense + "," + kDense, "two layers are called d"},
      {layer("Conv2D", "c",
             R"("filters":2147483647,"kernel_size":[2147483647,2147483647],)"
             R"("padding":"same")"),
       "2^28"}};
  for (const auto& [layers, message] : cases) {
    INFO(layers);
    CHECK_THAT(arch_of(layers), Contains(message));
  }
}

TEST_CASE("texts that are not the configuration of a model", "[keras_config]") {
  const std::string deep(400'000, '[');
  const std::string keys = [] {
    std::string text = R"({"class_name":"Sequential","config":{)";
    for (int i = 0; i < 2000; ++i) text += "\"k" + std::to_string(i) + "\":1,";
    return text + R"("z":1}})";
  }();
  for (const std::string& text :
       {std::string(), std::string("null"), std::string("7"), std::string("\"Sequential\""),
        std::string("[]"), std::string("{}"), std::string("{"), std::string("\xff\xfe"),
        std::string(R"({"class_name":"Sequential"})"),
        std::string(R"({"class_name":"Sequential","config":null})"),
        std::string(R"({"class_name":"Sequential","config":{"layers":{}}})"),
        std::string(R"({"class_name":"Sequential","config":{"layers":[]}})"),
        std::string(R"({"class_name":"Sequential","config":{"layers":[1,2]}})"),
        std::string(R"({"class_name":"Sequential","config":{"layers":[null]}})"),
        std::string(R"({"class_name":"Functional","config":{"layers":[]}})"),
        std::string(R"({"class_name":["Sequential"],"config":{"layers":[]}})"),
        std::string(1'100'000, ' '), deep, keys}) {
    INFO(text.substr(0, 100));
    CHECK_THROWS_AS(parse_model_config(text), Error);
  }
}

// ---- files that are not what they should be -----------------------------------------------------

TEST_CASE("files without a whole model", "[foreign_model_file]") {
  H5Builder nothing;
  CHECK_THAT(refusal(nothing.image()), Contains("holds no Keras model"));
  H5Builder weights;
  weights.list("/", "layer_names", {"dense"}, Strings::kVariableAscii);
  CHECK_THAT(refusal(weights.image()), Contains("weights without the model"));
  H5Builder new_weights;
  new_weights.group("/layers/dense/vars");
  CHECK_THAT(refusal(new_weights.image()), Contains("weights without the model"));
}

TEST_CASE("weights that do not fit the model", "[foreign_model_file]") {
  H5Builder file = keras_file();
  SECTION("shape") {
    file.remove(kDenseKernel);
    file.dataset(kDenseKernel, {3, 8}, std::vector<float>(24));
    CHECK_THAT(refusal(file.image()), Contains("dense: kernel has shape (3, 8) instead of (8, 3)"));
  }
  SECTION("rank") {
    file.remove(kDenseKernel);
    file.dataset(kDenseKernel, {24}, std::vector<float>(24));
    CHECK_THAT(refusal(file.image()), Contains("dense: kernel has shape (24) instead of (8, 3)"));
  }
  SECTION("scalar") {
    file.remove(kDenseKernel);
    file.dataset(kDenseKernel, {}, {1});
    CHECK_THAT(refusal(file.image()), Contains("dense: kernel has shape () instead of (8, 3)"));
  }
  SECTION("dataset missing") {
    file.remove(kDenseKernel);
    CHECK_THAT(refusal(file.image()), Contains("is missing"));
  }
  SECTION("group missing") {
    file.remove("/model_weights/dense");
    CHECK_THAT(refusal(file.image()), Contains("\"dense\" is missing"));
  }
  SECTION("all missing") {
    file.remove("/model_weights");
    CHECK_THAT(refusal(file.image()), Contains("\"model_weights\" is missing"));
  }
  SECTION("a group in the place of the dataset") {
    file.remove(kDenseKernel);
    file.group(kDenseKernel);
    CHECK_THAT(refusal(file.image()), Contains("is not a dataset"));
  }
  SECTION("a dataset in the place of the group") {
    file.remove("/model_weights/dense");
    file.dataset("/model_weights/dense", {1}, {1});
    CHECK_THAT(refusal(file.image()), Contains("is not a group"));
  }
  SECTION("never written") {
    file.remove(kDenseKernel);
    file.dataset(kDenseKernel, {8, 3}, {});
    CHECK_THAT(refusal(file.image()), Contains("dense: kernel holds no data"));
  }
  SECTION("not finite") {
    for (const float value :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      std::vector<float> values(24);
      values[23] = value;
      file.remove(kDenseKernel);
      file.dataset(kDenseKernel, {8, 3}, values);
      CHECK_THAT(refusal(file.image()), Contains("dense: kernel has weights that are NaN"));
    }
  }
  SECTION("layers too few or too many") {
    const auto relist = [&](const std::vector<std::string>& names) {
      REQUIRE(H5Adelete_by_name(file.id(), "/model_weights", "layer_names", H5P_DEFAULT) >= 0);
      file.list("/model_weights", "layer_names", names, Strings::kVariableAscii);
      return refusal(file.image());
    };
    CHECK_THAT(relist({"conv2d"}), Contains("the weights of dense are missing"));
    CHECK_THAT(relist({}), Contains("the weights of conv2d are missing"));
    CHECK_THAT(relist({"conv2d", "dense", "dense"}), Contains("more layers than the model has"));
    CHECK_THAT(relist({"dense", "conv2d"}), Contains("conv2d: kernel has shape (8, 3)"));
  }
  SECTION("weights too few or too many") {
    const auto relist = [&](const std::vector<std::string>& names) {
      REQUIRE(H5Adelete_by_name(file.id(), "/model_weights/dense", "weight_names", H5P_DEFAULT) >=
              0);
      file.list("/model_weights/dense", "weight_names", names, Strings::kVariableAscii);
      return refusal(file.image());
    };
    CHECK_THAT(relist({"sequential/dense/kernel"}), Contains("dense has 1 weights instead of 2"));
    for (const char* path :
         {"", "/", "..", "../dense/sequential/dense/kernel", "./kernel",
          "/model_weights/dense/sequential/dense/kernel", "sequential//dense/kernel",
          "sequential/dense/kernel/", "sequential/dense/kernel/more"}) {
      INFO(path);
      CHECK(refusal(file.image()) != relist({path, "sequential/dense/bias"}));
      CHECK(relist({path, "sequential/dense/bias"}) != "accepted");
    }
  }
}

TEST_CASE("marks of ours without the checksum that belongs to them", "[foreign_model_file]") {
  const std::pair<const char*, const char*> marks[] = {
      {model_file::kFormat, model_file::kFormatVersion},
      {model_file::kFormat, model_file::kFp16FormatVersion},
      {model_file::kDigest, "1"}};
  for (const auto& [name, value] : marks) {
    H5Builder file = keras_file();
    file.text("/", name, value, Strings::kNullPadded);
    CHECK_THAT(refusal(file.image()), Contains("checksum does not fit"));
  }
  H5Builder newer = keras_file();
  newer.text("/", model_file::kFormat, "3", Strings::kNullPadded);
  CHECK_THAT(refusal(newer.image()), Contains("format 3"));
}

TEST_CASE("terminal commands in names do not reach the terminal", "[foreign_model_file]") {
  const std::string config = sequential(layer("Evil", "\\u001b[2J"));
  const std::string message = refusal(keras_file({.config = config}).image());
  CHECK_THAT(message, Contains("?[2J is a Evil"));
  CHECK(message.find('\x1b') == message.npos);
  const ModelFile file = read(keras_file({.version = "3\x1b[31m\n"}).image());
  CHECK(file.writer == "Keras 3?[31m?");
}

// ---- files made to do harm ----------------------------------------------------------------------

TEST_CASE("links that leave the file are not followed", "[foreign_model_file]") {
  const TemporaryDirectory dir;
  const Image other = keras_file().image();
  std::ofstream(dir / "other.h5", std::ios::binary)
      .write(reinterpret_cast<const char*>(other.data()), std::streamsize(other.size()));
  const std::string target = (dir / "other.h5").string();
  for (const char* place : {"/model_weights", "/model_weights/dense",
                            "/model_weights/dense/sequential", kDenseKernel}) {
    INFO(place);
    for (const bool external : {false, true}) {
      H5Builder file = keras_file();
      REQUIRE(H5Lmove(file.id(), place, file.id(), "/moved", H5P_DEFAULT, H5P_DEFAULT) >= 0);
      if (external)
        REQUIRE(H5Lcreate_external(target.c_str(), place, file.id(), place, H5P_DEFAULT,
                                   H5P_DEFAULT) >= 0);
      else
        REQUIRE(H5Lcreate_soft("/moved", file.id(), place, H5P_DEFAULT, H5P_DEFAULT) >= 0);
      CHECK_THAT(refusal(file.image()), Contains("soft or external link"));
    }
  }
}

TEST_CASE("data outside the file are not read", "[foreign_model_file]") {
  const TemporaryDirectory dir;
  std::ofstream(dir / "secret") << std::string(1000, 's');
  H5Builder file = keras_file();
  file.remove(kDenseKernel);
  const Id creation = h5::property_list(H5P_DATASET_CREATE);
  SECTION("external storage") {
    REQUIRE(H5Pset_external(creation, (dir / "secret").c_str(), 0, 96) >= 0);
    file.dataset(kDenseKernel, {8, 3}, {}, H5T_IEEE_F32LE, creation);
    CHECK_THAT(refusal(file.image()), Contains("dense: kernel is stored in an external file"));
  }
  SECTION("virtual dataset") {
    const hsize_t dims[] = {8, 3};
    const Id space(H5Screate_simple(2, dims, nullptr), H5Sclose, "create a dataspace");
    REQUIRE(H5Pset_virtual(creation, space, (dir / "secret").c_str(), "/x", space) >= 0);
    file.dataset(kDenseKernel, {8, 3}, {}, H5T_IEEE_F32LE, creation);
    CHECK_THAT(refusal(file.image()), Contains("dense: kernel is a virtual dataset"));
  }
}

TEST_CASE("filters that would need a plugin, or are not plain compression",
          "[foreign_model_file]") {
  H5Builder file = keras_file();
  file.remove(kDenseKernel);
  const Id creation = h5::property_list(H5P_DATASET_CREATE);
  const hsize_t chunk[] = {8, 3};
  REQUIRE(H5Pset_chunk(creation, 2, chunk) >= 0);
  SECTION("unknown") {
    REQUIRE(H5Pset_filter(creation, H5Z_filter_t(32017), H5Z_FLAG_OPTIONAL, 0, nullptr) >= 0);
  }
  SECTION("scale and offset") {
    REQUIRE(H5Pset_scaleoffset(creation, H5Z_SO_FLOAT_DSCALE, 2) >= 0);
  }
  file.dataset(kDenseKernel, {8, 3}, std::vector<float>(24), H5T_IEEE_F32LE, creation);
  CHECK_THAT(refusal(file.image()), Contains("unknown filter"));
}

TEST_CASE("a small file that promises a huge model", "[foreign_model_file]") {
  const std::string config =
      sequential(layer("Flatten", "flatten") + "," + layer("Dense", "dense", R"("units":300000)") +
                 "," + layer("Dense", "dense_1", R"("units":10,"activation":"softmax")"));
  H5Builder file = keras_file({.config = config});
  SECTION("in its configuration") {}
  SECTION("in its datasets as well") {
    const Id creation = h5::property_list(H5P_DATASET_CREATE);
    const hsize_t chunk[] = {784, 1000};
    REQUIRE(H5Pset_chunk(creation, 2, chunk) >= 0);
    REQUIRE(H5Pset_deflate(creation, 9) >= 0);
    file.remove(kDenseKernel);
    file.dataset(kDenseKernel, {784, 300000}, {}, H5T_IEEE_F32LE, creation);
  }
  CHECK_THAT(refusal(file.image()), Contains("too small to hold"));
}

TEST_CASE("huge shapes where small ones belong", "[foreign_model_file]") {
  H5Builder file = keras_file();
  file.remove(kDenseKernel);
  const Id creation = h5::property_list(H5P_DATASET_CREATE);
  const hsize_t chunk[] = {1, 1};
  REQUIRE(H5Pset_chunk(creation, 2, chunk) >= 0);
  file.dataset(kDenseKernel, {hsize_t(1) << 62, hsize_t(1) << 1}, {}, H5T_IEEE_F32LE, creation);
  CHECK_THAT(refusal(file.image()), Contains("instead of (8, 3)"));
}

TEST_CASE("types that are not numbers", "[foreign_model_file]") {
  const Id compound(H5Tcreate(H5T_COMPOUND, 8), H5Tclose, "create a type");
  REQUIRE(H5Tinsert(compound, "a", 0, H5T_IEEE_F32LE) >= 0);
  REQUIRE(H5Tinsert(compound, "b", 4, H5T_IEEE_F32LE) >= 0);
  const Id variable(H5Tvlen_create(H5T_IEEE_F32LE), H5Tclose, "create a type");
  const hsize_t three = 3;
  const Id array(H5Tarray_create2(H5T_IEEE_F32LE, 1, &three), H5Tclose, "create a type");
  for (const hid_t type : {hid_t(compound), hid_t(variable), hid_t(array), H5T_C_S1,
                           H5T_STD_REF_OBJ, H5T_STD_U8LE, H5T_NATIVE_LDOUBLE}) {
    H5Builder file = keras_file();
    file.remove(kDenseKernel);
    file.dataset(kDenseKernel, {8, 3}, {}, type);
    CHECK_THAT(refusal(file.image()), Contains("does not consist of floating-point numbers"));
  }
}

TEST_CASE("attributes of the wrong kind, or too large", "[foreign_model_file]") {
  H5Builder file = keras_file();
  const auto replace = [&](const char* object, const char* name, const auto& add) {
    REQUIRE(H5Adelete_by_name(file.id(), object, name, H5P_DEFAULT) >= 0);
    add();
    return refusal(file.image());
  };
  SECTION("two texts") {
    CHECK_THAT(replace("/", "model_config",
                       [&] {
                         file.list("/", "model_config", {"{}", "{}"}, Strings::kNullPadded);
                       }),
               Contains("is not one text"));
  }
  SECTION("numbers") {
    CHECK_THAT(replace("/model_weights", "layer_names",
                       [&] {
                         const hsize_t count = 3;
                         const Id space(H5Screate_simple(1, &count, nullptr), H5Sclose, "");
                         const Id owner(H5Oopen(file.id(), "/model_weights", H5P_DEFAULT), H5Oclose,
                                        "");
                         const Id attribute(H5Acreate2(owner, "layer_names", H5T_IEEE_F64LE, space,
                                                       H5P_DEFAULT, H5P_DEFAULT),
                                            H5Aclose, "");
                       }),
               Contains("layer_names is not text"));
  }
  SECTION("megabytes") {
    CHECK_THAT(replace("/", "model_config",
                       [&] {
                         file.text("/", "model_config", std::string(size_t(2) << 20, ' '),
                                   Strings::kVariableAscii);
                       }),
               Contains("longer than 1 MiB"));
  }
  SECTION("tens of thousands of items") {
    CHECK_THAT(replace("/model_weights", "layer_names",
                       [&] {
                         file.list("/model_weights", "layer_names",
                                   std::vector<std::string>(30'000, "x"), Strings::kNullPadded);
                       }),
               Contains("too many items"));
  }
  SECTION("deeply nested") {
    CHECK_THAT(replace("/", "model_config",
                       [&] {
                         file.text("/", "model_config", std::string(500'000, '['),
                                   Strings::kVariableAscii);
                       }),
               Contains("nested too deeply"));
  }
}

TEST_CASE("cycles and depths of groups", "[foreign_model_file]") {
  H5Builder file = keras_file();
  REQUIRE(H5Lcreate_hard(file.id(), "/model_weights/dense", file.id(), "/model_weights/dense/again",
                         H5P_DEFAULT, H5P_DEFAULT) >= 0);
  const auto relist = [&](const std::string& kernel) {
    REQUIRE(H5Adelete_by_name(file.id(), "/model_weights/dense", "weight_names", H5P_DEFAULT) >= 0);
    file.list("/model_weights/dense", "weight_names", {kernel, "sequential/dense/bias"},
              Strings::kVariableAscii);
    return file.image();
  };
  const auto around = [](int times) {
    std::string path;
    for (int i = 0; i < times; ++i) path += "again/";
    return path;
  };
  // A long way round is still a way.
  check_standard(read(relist(around(100) + "sequential/dense/kernel")));
  CHECK_THAT(refusal(relist(around(100))), Contains("is not plain"));
  CHECK_THAT(refusal(relist(around(100) + "nowhere")), Contains("is missing"));
  CHECK_THAT(refusal(relist(around(5000) + "sequential/dense/kernel")), Contains("is too long"));
}

TEST_CASE("thousands of objects and attributes that nobody asked for", "[foreign_model_file]") {
  H5Builder file = keras_file();
  for (int i = 0; i < 2000; ++i) file.group("/extra/" + std::to_string(i));
  for (int i = 0; i < 500; ++i)
    file.text("/", "extra" + std::to_string(i), "x", Strings::kVariableUtf8);
  check_standard(read(file.image()));
}

// ---- damage -------------------------------------------------------------------------------------

// Variable-length strings lead the library through pointers of the file's; some of these cases
// crash it, or make it hang for the five seconds it is given.
TEST_CASE("damage to a file of Keras' ends in an error or in a model", "[foreign_model_file]") {
  const Image image = keras_file().image();
  Random random;
  std::vector<uint64_t> seeds(kSanitized ? 300 : 1500);
  for (uint64_t& seed : seeds) seed = random.next();
  const Tally tally = read_variants(image, seeds.size(), [&](Image& variant, size_t number) {
    Random bytes(seeds[number] >> 24);
    for (int n = bytes.integer(1, 4); n > 0; --n)
      variant[size_t(bytes.integer(0, int(variant.size()) - 1))] ^=
          std::byte(bytes.integer(1, 255));
  });
  CHECK(tally[Verdict::kRefused] + tally[Verdict::kCrashed] + tally[Verdict::kSame] +
            tally[Verdict::kDifferent] ==
        int64_t(seeds.size()));
  CHECK(tally[Verdict::kRefused] > int64_t(seeds.size()) / 30);
}

TEST_CASE("a Keras file cut off anywhere is refused", "[foreign_model_file]") {
  const Image image = keras_file().image();
  const size_t step = kSanitized ? 16 : 1;
  const Tally tally = read_variants(image, image.size() / step, [=](Image& variant, size_t number) {
    variant.resize(number * step);
  });
  CHECK(tally[Verdict::kRefused] == int64_t(image.size() / step));
}

}  // namespace mnist
