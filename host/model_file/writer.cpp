// Builds mnist.h5 in memory: the legacy Keras layout with fixed-length strings, old-style groups
// and contiguous datasets, which h5py and Keras of every age read. Adam's state is not in
// `optimizer_weights`, whose mere presence makes fit() fail in Keras 3, but in a group of ours.
#include <algorithm>

#include "host/model_file/format.h"
#include "host/model_file/h5.h"
#include "host/model_file/keras_config.h"

namespace mnist::model_file {
namespace {

using h5::check;
using h5::Id;

// Larger attributes do not fit an object header; Keras has the same limit.
constexpr size_t kMaxAttributeBytes = 64512;

constexpr char kKerasVersion[] = "2.15.0";
constexpr char kBackend[] = "tensorflow";

void write_attribute(hid_t object, const char* name, hid_t type, hid_t space, const void* value) {
  const Id attribute(H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                     "create an attribute");
  check(H5Awrite(attribute, type, value) >= 0, "write an attribute");
}

Id scalar_space() {
  return {H5Screate(H5S_SCALAR), H5Sclose, "create a dataspace"};
}

Id string_type(size_t size) {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose, "create a type");
  check(H5Tset_size(type, size) >= 0, "size a type");
  check(H5Tset_strpad(type, size == H5T_VARIABLE ? H5T_STR_NULLTERM : H5T_STR_NULLPAD) >= 0,
        "pad a type");
  return type;
}

void write_text(hid_t object, const char* name, const std::string& text) {
  const char* pointer = text.c_str();
  if (text.size() > kMaxAttributeBytes)
    write_attribute(object, name, string_type(H5T_VARIABLE), scalar_space(), &pointer);
  else  // a string type has at least one byte
    write_attribute(object, name, string_type(std::max<size_t>(text.size(), 1)), scalar_space(),
                    pointer);
}

// One item size for all: that of the longest. Keras writes an empty list as no numbers.
void write_list(hid_t object, const char* name, const std::vector<std::string>& items) {
  const hsize_t count = items.size();
  const Id space(H5Screate_simple(1, &count, nullptr), H5Sclose, "create a dataspace");
  size_t size = 0;
  for (const std::string& item : items) size = std::max(size, item.size());
  if (size == 0) {
    const Id attribute(H5Acreate2(object, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT),
                       H5Aclose, "create an attribute");
    return;
  }
  std::string buffer;
  for (std::string item : items) {
    item.resize(size, '\0');
    buffer += item;
  }
  write_attribute(object, name, string_type(size), space, buffer.data());
}

void write_value(hid_t object, const char* name, const std::string& value) {
  write_text(object, name, value);
}
void write_value(hid_t object, const char* name, double value) {
  write_attribute(object, name, H5T_IEEE_F64LE, scalar_space(), &value);
}
void write_value(hid_t object, const char* name, uint64_t value) {
  write_attribute(object, name, H5T_STD_U64LE, scalar_space(), &value);
}
void write_value(hid_t object, const char* name, int64_t value) {
  write_attribute(object, name, H5T_STD_I64LE, scalar_space(), &value);
}
void write_value(hid_t object, const char* name, int value) {
  write_value(object, name, int64_t(value));
}
void write_value(hid_t object, const char* name, bool value) {
  write_value(object, name, int64_t(value));
}
void write_value(hid_t object, const char* name, Math value) {
  write_text(object, name, name_of(value));
}

// Creates the groups on the way to its path; dates are left out, so that equal contents give equal
// bytes.
void write_dataset(hid_t group, const std::string& path, hid_t type, hid_t space,
                   const void* values) {
  const Id links = h5::property_list(H5P_LINK_CREATE);
  check(H5Pset_create_intermediate_group(links, 1) >= 0, "set a property");
  const Id creation = h5::property_list(H5P_DATASET_CREATE);
  check(H5Pset_obj_track_times(creation, false) >= 0, "set a property");
  const Id dataset(H5Dcreate2(group, path.c_str(), type, space, links, creation, H5P_DEFAULT),
                   H5Dclose, "create a dataset");
  check(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, "write a dataset");
}

void write_tensor(hid_t group, const std::string& path, const Parameter& parameter,
                  const std::vector<float>& arena) {
  const std::vector<hsize_t> dims(parameter.shape.begin(), parameter.shape.end());
  const Id space(H5Screate_simple(int(dims.size()), dims.data(), nullptr), H5Sclose,
                 "create a dataspace");
  write_dataset(group, path, H5T_IEEE_F32LE, space, arena.data() + parameter.offset);
}

void write_scalar(hid_t group, const char* name, int64_t value) {
  write_dataset(group, name, H5T_STD_I64LE, scalar_space(), &value);
}
void write_scalar(hid_t group, const char* name, float value) {
  write_dataset(group, name, H5T_IEEE_F32LE, scalar_space(), &value);
}

Id create_group(hid_t parent, const char* name) {
  return {H5Gcreate2(parent, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose,
          "create a group"};
}

void write_weights(hid_t file, const Model& model, const std::vector<float>& weights) {
  const Id root = create_group(file, "model_weights");
  write_text(root, "backend", kBackend);
  write_text(root, "keras_version", kKerasVersion);
  std::vector<std::string> layer_names;
  for (const Layer& layer : model.layers) layer_names.push_back(layer.name);
  write_list(root, "layer_names", layer_names);
  for (int i = 0; i < int(model.layers.size()); ++i) {
    const std::string& name = model.layers[size_t(i)].name;
    const Id group = create_group(root, name.c_str());
    std::vector<std::string> weight_names;
    for (const Parameter& p : model.parameters) {
      if (p.layer != i) continue;
      weight_names.push_back(path_of(model, p) + ":0");
      write_tensor(group, weight_names.back(), p, weights);
    }
    write_list(group, "weight_names", weight_names);
  }
  write_list(create_group(root, "top_level_model_weights"), "weight_names", {});
}

void write_state(hid_t file, const Model& model, const RunState& state) {
  const Id group = create_group(file, kState);
  write_text(group, kArch, arch_string(model));
  const auto write = [&](const char* name, const auto& value) { write_value(group, name, value); };
  for_each_attribute(state, write);
  if (state.math == Math::kFp16) for_each_fp16_attribute(state, write);
  for_each_scalar_dataset(
      state, [&](const char* name, const auto& value) { write_scalar(group, name, value); });
  for (const Parameter& p : model.parameters) {
    write_tensor(group, "m/" + path_of(model, p), p, state.m);
    write_tensor(group, "v/" + path_of(model, p), p, state.v);
  }
}

Id create_in_memory() {
  const Id access = h5::property_list(H5P_FILE_ACCESS);
  check(H5Pset_fapl_core(access, size_t(1) << 20, false) >= 0, "set up a file in memory");
  check(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST) >= 0,
        "choose the file format");
  return {H5Fcreate("mnist.h5", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose,
          "create a file in memory"};
}

}  // namespace

std::vector<std::byte> build_image(const Model& model, const std::vector<float>& weights,
                                   const RunState* state) {
  h5::quiet();
  const Texts texts{mnist::model_config(model),
                    mnist::training_config(state ? state->learning_rate : 0.001f), kKerasVersion,
                    kBackend};
  const Id file = create_in_memory();
  write_text(file, "backend", texts.backend);
  write_text(file, "keras_version", texts.keras_version);
  write_text(file, "model_config", texts.model_config);
  write_text(file, "training_config", texts.training_config);
  const bool fp16 = state && state->math == Math::kFp16;
  write_text(file, kFormat, fp16 ? kFp16FormatVersion : kFormatVersion);
  write_text(file, kDigest, digest(texts, model, weights, state));
  write_weights(file, model, weights);
  if (state) write_state(file, model, *state);

  return h5::image_of(file);
}

}  // namespace mnist::model_file
