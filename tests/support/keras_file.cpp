// HDF5 files as Keras and h5py write them.
#include "tests/support/keras_file.h"

#include <algorithm>

#ifdef __SANITIZE_ADDRESS__
// The limit of a sandbox's memory, which the sanitizer's own address space rules out.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=1024";
}
#endif

namespace mnist::test {

using h5::check;
using h5::Id;

namespace {

Id access_in_memory() {
  Id access = h5::property_list(H5P_FILE_ACCESS);
  check(H5Pset_fapl_core(access, 1 << 16, false) >= 0, "set up a file in memory");
  return access;
}

Id intermediate_groups() {
  Id links = h5::property_list(H5P_LINK_CREATE);
  check(H5Pset_create_intermediate_group(links, 1) >= 0, "set a property");
  return links;
}

// The library refuses to open two files of one name.
std::string unused_name() {
  static int count = 0;
  return "built-" + std::to_string(++count) + ".h5";
}

}  // namespace

H5Builder::H5Builder()
    : file_(H5Fcreate(unused_name().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access_in_memory()),
            H5Fclose, "create a file in memory") {
  h5::quiet();
}

void H5Builder::group(const std::string& path) {
  const Id group(H5Gcreate2(file_, path.c_str(), intermediate_groups(), H5P_DEFAULT, H5P_DEFAULT),
                 H5Gclose, "create a group");
}

void H5Builder::strings(const std::string& object, const std::string& name,
                        const std::vector<std::string>& items, Strings kind, hid_t space) {
  const bool variable = kind == Strings::kVariableUtf8 || kind == Strings::kVariableAscii;
  const bool terminated = kind == Strings::kNullTerminated;
  size_t size = 1;
  for (const std::string& item : items) size = std::max(size, item.size() + terminated);
  const Id type(H5Tcopy(H5T_C_S1), H5Tclose, "create a type");
  check(H5Tset_size(type, variable ? H5T_VARIABLE : size) >= 0, "size a type");
  check(H5Tset_cset(type, kind == Strings::kVariableUtf8 ? H5T_CSET_UTF8 : H5T_CSET_ASCII) >= 0,
        "set a character set");
  check(H5Tset_strpad(type, kind == Strings::kNullPadded    ? H5T_STR_NULLPAD
                            : kind == Strings::kSpacePadded ? H5T_STR_SPACEPAD
                                                            : H5T_STR_NULLTERM) >= 0,
        "pad a type");
  const Id owner(H5Oopen(file_, object.c_str(), H5P_DEFAULT), H5Oclose, "open an object");
  const Id attribute(H5Acreate2(owner, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT),
                     H5Aclose, "create an attribute");
  std::vector<const char*> pointers;
  std::string buffer;
  for (std::string item : items) {
    pointers.push_back(items[pointers.size()].c_str());
    item.resize(size, kind == Strings::kSpacePadded ? ' ' : '\0');
    buffer += item;
  }
  const void* data = variable ? static_cast<const void*>(pointers.data()) : buffer.data();
  check(H5Awrite(attribute, type, data) >= 0, "write an attribute");
}

void H5Builder::text(const std::string& object, const std::string& name, const std::string& value,
                     Strings kind) {
  strings(object, name, {value}, kind, Id(H5Screate(H5S_SCALAR), H5Sclose, "create a dataspace"));
}

void H5Builder::list(const std::string& object, const std::string& name,
                     const std::vector<std::string>& items, Strings kind) {
  const hsize_t count = items.size();
  const Id space(H5Screate_simple(1, &count, nullptr), H5Sclose, "create a dataspace");
  if (count > 0) return strings(object, name, items, kind, space);
  const Id owner(H5Oopen(file_, object.c_str(), H5P_DEFAULT), H5Oclose, "open an object");
  const Id attribute(
      H5Acreate2(owner, name.c_str(), H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
      "create an attribute");
}

void H5Builder::dataset(const std::string& path, const std::vector<hsize_t>& shape,
                        const std::vector<float>& values, hid_t type, hid_t creation) {
  const Id space(shape.empty() ? H5Screate(H5S_SCALAR)
                               : H5Screate_simple(int(shape.size()), shape.data(), nullptr),
                 H5Sclose, "create a dataspace");
  const Id dataset(
      H5Dcreate2(file_, path.c_str(), type, space, intermediate_groups(), creation, H5P_DEFAULT),
      H5Dclose, "create a dataset");
  if (values.empty()) return;
  check(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0,
        "write a dataset");
}

void H5Builder::remove(const std::string& path) {
  check(H5Ldelete(file_, path.c_str(), H5P_DEFAULT) >= 0, "remove a link");
}

std::vector<std::byte> H5Builder::image() const {
  return h5::image_of(file_);
}

const char* const kKeras3Config = R"({
  "class_name": "Sequential", "config": {"name": "sequential", "trainable": true,
  "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"},
            "registered_name": null},
  "layers": [
    {"module": "keras.layers", "class_name": "InputLayer", "registered_name": null,
     "config": {"batch_shape": [null, 4, 4, 1], "dtype": "float32", "sparse": false,
                "ragged": false, "optional": false, "name": "input_layer"}},
    {"module": "keras.layers", "class_name": "Conv2D", "registered_name": null,
     "build_config": {"input_shape": [null, 4, 4, 1]},
     "config": {"name": "conv2d", "trainable": true,
       "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"},
                 "registered_name": null},
       "filters": 2, "kernel_size": [3, 3], "strides": [1, 1], "padding": "valid",
       "data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1,
       "activation": "relu", "use_bias": true,
       "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform",
                              "config": {"seed": null}, "registered_name": null},
       "kernel_regularizer": null}},
    {"module": "keras.layers", "class_name": "Flatten", "registered_name": null,
     "config": {"name": "flatten", "data_format": "channels_last"}},
    {"module": "keras.layers", "class_name": "Dense", "registered_name": null,
     "config": {"name": "dense", "units": 3, "activation": "softmax", "use_bias": true,
                "quantization_config": null}}],
  "build_input_shape": [null, 4, 4, 1]}})";

const char* const kKeras2Config = R"({
  "class_name": "Sequential", "config": {"name": "sequential", "layers": [
    {"class_name": "Conv2D", "config": {"name": "conv2d", "trainable": true, "dtype": "float32",
       "batch_input_shape": [null, 4, 4, 1], "filters": 2,
       "kernel_size": {"class_name": "__tuple__", "items": [3, 3]}, "strides": 1,
       "padding": "valid", "activation": "relu", "use_bias": true,
       "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": null}}}},
    {"class_name": "Flatten", "config": {"name": "flatten", "dtype": "float32"}},
    {"class_name": "Custom>Dense", "config": {"name": "dense", "units": 3,
       "activation": {"class_name": "function", "config": "softmax",
                      "registered_name": "softmax"}}}]}})";

std::vector<float> keras_weights() {
  std::vector<float> weights(18 + 2 + 24 + 3);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = float(i) / 64 - 0.25f;
  return weights;
}

H5Builder keras_file(const KerasStyle& style) {
  H5Builder file;
  const Strings kind = style.strings;
  file.text("/", "keras_version", style.version, kind);
  file.text("/", "backend", "tensorflow", kind);
  file.text("/", "model_config", style.config, kind);
  file.group("/model_weights");
  if (style.split_lists) {
    file.list("/model_weights", "layer_names0", {"conv2d"}, kind);
    file.list("/model_weights", "layer_names1", {"flatten", "dense"}, kind);
  } else {
    file.list("/model_weights", "layer_names", {"conv2d", "flatten", "dense"}, kind);
  }
  file.group("/model_weights/flatten");
  file.list("/model_weights/flatten", "weight_names", {}, kind);
  file.group("/model_weights/top_level_model_weights");
  file.list("/model_weights/top_level_model_weights", "weight_names", {}, kind);

  const std::vector<float> weights = keras_weights();
  size_t next = 0;
  const auto name_of = [&](const std::string& layer, const std::string& weight) {
    std::string name = style.weight_name;
    if (const size_t at = name.find('%'); at != name.npos) name.replace(at, 1, layer);
    return name.replace(name.find("kernel"), 6, weight);
  };
  const auto add_layer = [&](const std::string& layer, const std::vector<hsize_t>& kernel) {
    const std::string group = "/model_weights/" + layer;
    file.group(group);
    file.list(group, "weight_names", {name_of(layer, "kernel"), name_of(layer, "bias")}, kind);
    for (const std::vector<hsize_t>& shape : {kernel, std::vector<hsize_t>{kernel.back()}}) {
      size_t size = 1;
      for (const hsize_t s : shape) size *= s;
      const std::vector<float> values(weights.begin() + ptrdiff_t(next),
                                      weights.begin() + ptrdiff_t(next + size));
      file.dataset(group + "/" + name_of(layer, shape.size() > 1 ? "kernel" : "bias"), shape,
                   values, style.float_type);
      next += size;
    }
  };
  add_layer("conv2d", {3, 3, 1, 2});
  add_layer("dense", {8, 3});
  return file;
}

}  // namespace mnist::test
