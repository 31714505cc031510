// Reads the HDF5 file of any Keras 2 or 3: strings of every kind, list attributes split into parts,
// weights matched by order, as Keras does. It follows hard links only, and opens nothing that could
// lead outside the file: no soft or external links, external storage, virtual datasets or plugins.
#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "host/model_file/format.h"
#include "host/model_file/h5.h"
#include "host/model_file/keras_config.h"

namespace mnist::model_file {
namespace {

using h5::check;
using h5::Id;

constexpr size_t kMaxTextBytes = size_t(1) << 20;
constexpr size_t kMaxPathBytes = 1024;
constexpr hssize_t kMaxListItems = 10'000;
constexpr size_t kMaxInflation = 1100;  // deflate's best is 1032

// ---- objects ------------------------------------------------------------------------------------

bool exists(hid_t group, const std::string& name) {
  const htri_t there = H5Lexists(group, name.c_str(), H5P_DEFAULT);
  check(there >= 0, "look up an object");
  return there > 0;
}

std::string quoted(const std::string& path) {
  return path.size() <= 100 ? "\"" + path + "\"" : "\"..." + path.substr(path.size() - 97) + "\"";
}

Id open_child(hid_t group, const std::string& name, const std::string& path) {
  if (name.empty() || name == "." || name == "..")
    fail("the path " + quoted(path) + " is not plain");
  if (!exists(group, name)) fail(quoted(path) + " is missing");
  H5L_info_t link;
  check(H5Lget_info(group, name.c_str(), &link, H5P_DEFAULT) >= 0, "look up a link");
  if (link.type != H5L_TYPE_HARD)
    fail(quoted(path) + " is a soft or external link, which is not followed");
  return {H5Oopen(group, name.c_str(), H5P_DEFAULT), H5Oclose, "open an object"};
}

// Opens the object at `path` below a group, component by component.
Id open_path(hid_t group, const std::string& path, H5I_type_t type) {
  if (path.size() > kMaxPathBytes) fail("the path " + quoted(path) + " is too long");
  size_t begin = 0, end = path.find('/');
  Id object = open_child(group, path.substr(0, end), path);
  while (end != path.npos) {
    if (H5Iget_type(object) != H5I_GROUP)
      fail(quoted(path) + " goes through something that is not a group");
    begin = end + 1;
    end = path.find('/', begin);
    object = open_child(object, path.substr(begin, end - begin), path);
  }
  if (H5Iget_type(object) != type)
    fail(fmt::format("{} is not a {}", quoted(path), type == H5I_GROUP ? "group" : "dataset"));
  return object;
}

// ---- attributes ---------------------------------------------------------------------------------

bool has_attribute(hid_t object, const std::string& name) {
  const htri_t there = H5Aexists(object, name.c_str());
  check(there >= 0, "look up an attribute");
  return there > 0;
}

struct Attribute {
  Id id, type, space;
  hssize_t count;

  Attribute(hid_t object, const std::string& name)
      : id(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, "open an attribute"),
        type(H5Aget_type(id), H5Tclose, "tell the type of an attribute"),
        space(H5Aget_space(id), H5Sclose, "tell the shape of an attribute"),
        count(H5Sget_simple_extent_npoints(space)) {
    check(count >= 0, "count the items of an attribute");
  }
};

std::vector<std::string> read_variable_strings(const Attribute& a) {
  std::vector<char*> pointers(size_t(a.count), nullptr);
  check(H5Aread(a.id, a.type, pointers.data()) >= 0, "read an attribute");
  std::vector<std::string> strings;
  size_t total = 0;
  for (const char* pointer : pointers) {
    const size_t size = pointer ? strnlen(pointer, kMaxTextBytes + 1) : 0;
    if ((total += size) > kMaxTextBytes) fail("an attribute is longer than 1 MiB");
    strings.emplace_back(pointer ? pointer : "", size);
  }
  check(H5Dvlen_reclaim(a.type, a.space, H5P_DEFAULT, pointers.data()) >= 0, "free strings");
  return strings;
}

std::vector<std::string> read_fixed_strings(const Attribute& a) {
  const size_t size = H5Tget_size(a.type);
  if (size == 0 || size > kMaxTextBytes || size * size_t(a.count) > kMaxTextBytes)
    fail("an attribute is longer than 1 MiB");
  std::string buffer(size * size_t(a.count), '\0');
  check(H5Aread(a.id, a.type, buffer.data()) >= 0, "read an attribute");
  const bool spaces = H5Tget_strpad(a.type) == H5T_STR_SPACEPAD;
  std::vector<std::string> strings;
  for (size_t i = 0; i < size_t(a.count); ++i) {
    std::string item = buffer.substr(i * size, size);
    item = item.substr(0, item.find('\0'));
    if (spaces) item.erase(item.find_last_not_of(' ') + 1);
    strings.push_back(std::move(item));
  }
  return strings;
}

std::vector<std::string> read_strings(hid_t object, const std::string& name) {
  const Attribute a(object, name);
  if (a.count > kMaxListItems) fail("attribute " + name + " has too many items");
  if (a.count == 0) return {};  // of whatever type: Keras writes empty lists as numbers
  if (H5Tget_class(a.type) != H5T_STRING) fail("attribute " + name + " is not text");
  const htri_t variable = H5Tis_variable_str(a.type);
  check(variable >= 0, "tell the type of an attribute");
  return variable ? read_variable_strings(a) : read_fixed_strings(a);
}

// Empty if there is no such attribute.
std::string read_text(hid_t object, const std::string& name) {
  if (!has_attribute(object, name)) return {};
  const std::vector<std::string> strings = read_strings(object, name);
  if (strings.size() != 1) fail("attribute " + name + " is not one text");
  return strings.front();
}

// A list too large for one attribute is split into name0, name1, ...
std::vector<std::string> read_list(hid_t object, const std::string& name) {
  if (has_attribute(object, name)) return read_strings(object, name);
  std::vector<std::string> list;
  for (int part = 0; has_attribute(object, fmt::format("{}{}", name, part)); ++part) {
    const auto items = read_strings(object, fmt::format("{}{}", name, part));
    list.insert(list.end(), items.begin(), items.end());
    if (list.size() > size_t(kMaxListItems)) fail("attribute " + name + " has too many items");
  }
  return list;
}

// ---- datasets -----------------------------------------------------------------------------------

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

std::vector<int64_t> shape_of(hid_t dataset) {
  const Id space(H5Dget_space(dataset), H5Sclose, "tell the shape of a dataset");
  if (H5Sget_simple_extent_type(space) == H5S_NULL) fail("a dataset is empty");
  hsize_t dims[H5S_MAX_RANK] = {};
  const int rank = H5Sget_simple_extent_dims(space, dims, nullptr);
  check(rank >= 0, "tell the shape of a dataset");
  return {dims, dims + rank};
}

void check_storage(hid_t dataset, const std::string& what) {
  const Id list(H5Dget_create_plist(dataset), H5Pclose, "tell the storage of a dataset");
  const H5D_layout_t layout = H5Pget_layout(list);
  if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT)
    fail(what + " is a virtual dataset, which is not followed");
  if (H5Pget_external_count(list) != 0)
    fail(what + " is stored in an external file, which is not followed");
  const int filters = H5Pget_nfilters(list);
  check(filters >= 0, "tell the filters of a dataset");
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0;
    size_t values = 0;
    const H5Z_filter_t filter =
        H5Pget_filter2(list, unsigned(i), &flags, &values, nullptr, 0, nullptr, &config);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
        filter != H5Z_FILTER_FLETCHER32)
      fail(what + " is stored with an unknown filter");
  }
  if (H5Dget_storage_size(dataset) == 0) fail(what + " holds no data");
}

// Reads a dataset of the given shape and class; `what` names it in messages.
void read_dataset(hid_t group, const std::string& path, const std::string& what,
                  const std::vector<int64_t>& shape, H5T_class_t type_class, hid_t memory_type,
                  void* values) {
  const Id dataset = open_path(group, path, H5I_DATASET);
  const Id type(H5Dget_type(dataset), H5Tclose, "tell the type of a dataset");
  if (H5Tget_class(type) != type_class || H5Tget_size(type) > 8)
    fail(what + " does not consist of " + (type_class == H5T_FLOAT ? "floating-point" : "whole") +
         " numbers");
  const std::vector<int64_t> found = shape_of(dataset);
  if (found != shape)
    fail(what + " has shape " + shape_text(found) + " instead of " + shape_text(shape));
  check_storage(dataset, what);
  check(H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0,
        "read a dataset");
}

void read_tensor(hid_t group, const std::string& path, const std::string& what, const Parameter& p,
                 std::vector<float>& arena) {
  read_dataset(group, path, what, p.shape, H5T_FLOAT, H5T_NATIVE_FLOAT, arena.data() + p.offset);
}

// ---- the parts of the file ----------------------------------------------------------------------

std::string read_model_config(hid_t file) {
  std::string config = read_text(file, "model_config");
  if (!config.empty()) return config;
  if (has_attribute(file, "layer_names") || has_attribute(file, "layer_names0") ||
      exists(file, "layers") || exists(file, "_layer_checkpoint_dependencies"))
    fail(
        "it holds weights without the model they belong to (save_weights); save the whole model in "
        "Keras: model.save(\"mnist.h5\")");
  fail("it holds no Keras model; save one in Keras: model.save(\"mnist.h5\")");
}

// Groups of layers that own weights, with the names of the weights.
struct WeightGroup {
  std::string layer;
  std::vector<std::string> weights;
};

std::vector<WeightGroup> list_weights(hid_t root) {
  std::vector<WeightGroup> groups;
  for (const std::string& layer : read_list(root, "layer_names")) {
    const Id group = open_path(root, layer, H5I_GROUP);
    std::vector<std::string> weights = read_list(group, "weight_names");
    if (!weights.empty()) groups.push_back({layer, std::move(weights)});
  }
  return groups;
}

// The k-th group belongs to the k-th layer with weights, the i-th name to its i-th parameter: Keras
// matches by order as well, since names differ between its releases.
std::vector<float> read_weights(hid_t file, const Model& model) {
  const Id root = open_path(file, "model_weights", H5I_GROUP);
  const std::vector<WeightGroup> groups = list_weights(root);
  std::vector<float> arena(model.arena_size, 0.0f);
  size_t g = 0, parameter = 0;
  for (int layer = 0; layer < int(model.layers.size()); ++layer) {
    const auto begin = model.parameters.begin() + ptrdiff_t(parameter);
    const auto end = std::find_if(begin, model.parameters.end(),
                                  [&](const Parameter& p) { return p.layer != layer; });
    if (begin == end) continue;
    const std::string& name = model.layers[size_t(layer)].name;
    if (g == groups.size()) fail("the weights of " + name + " are missing");
    const WeightGroup& group = groups[g++];
    if (group.weights.size() != size_t(end - begin))
      fail(fmt::format("{} has {} weights instead of {}", name, group.weights.size(), end - begin));
    for (const std::string& weight : group.weights) {
      const Parameter& p = model.parameters[parameter++];
      const std::string what = name + ": " + p.name;
      read_tensor(root, group.layer + "/" + weight, what, p, arena);
    }
  }
  if (g != groups.size()) fail("there are weights of more layers than the model has");
  return arena;
}

void read_number(hid_t group, const char* name, H5T_class_t type_class, hid_t memory_type,
                 void* value) {
  if (!has_attribute(group, name)) fail(std::string("attribute ") + name + " is missing");
  const Attribute a(group, name);
  if (H5Tget_class(a.type) != type_class || H5Tget_size(a.type) != 8 || a.count != 1)
    fail(std::string("attribute ") + name + " is not one number");
  check(H5Aread(a.id, memory_type, value) >= 0, "read an attribute");
}

void read_value(hid_t group, const char* name, std::string& value) {
  value = read_text(group, name);
}
void read_value(hid_t group, const char* name, double& value) {
  read_number(group, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, &value);
}
void read_value(hid_t group, const char* name, uint64_t& value) {
  read_number(group, name, H5T_INTEGER, H5T_NATIVE_UINT64, &value);
}
void read_value(hid_t group, const char* name, int64_t& value) {
  read_number(group, name, H5T_INTEGER, H5T_NATIVE_INT64, &value);
}
int64_t read_bounded(hid_t group, const char* name, int64_t highest) {
  int64_t value = 0;
  read_value(group, name, value);
  if (value < 0 || value > highest) fail(std::string("attribute ") + name + " is out of range");
  return value;
}
void read_value(hid_t group, const char* name, int& value) {
  value = int(read_bounded(group, name, INT_MAX));
}
void read_value(hid_t group, const char* name, bool& value) {
  value = read_bounded(group, name, 1) != 0;
}
void read_value(hid_t group, const char* name, Math& value) {
  const std::string text = read_text(group, name);
  if (text != name_of(Math::kFp16)) fail(std::string("attribute ") + name + " is unknown: " + text);
  value = Math::kFp16;
}

void read_scalar(hid_t group, const char* name, int64_t& value) {
  read_dataset(group, name, name, {}, H5T_INTEGER, H5T_NATIVE_INT64, &value);
}
void read_scalar(hid_t group, const char* name, float& value) {
  read_dataset(group, name, name, {}, H5T_FLOAT, H5T_NATIVE_FLOAT, &value);
}

RunState read_state(hid_t file, const Model& model, std::string& arch) {
  const Id group = open_path(file, kState, H5I_GROUP);
  RunState state;
  arch = read_text(group, kArch);
  const auto read = [&](const char* name, auto& value) { read_value(group, name, value); };
  for_each_attribute(state, read);
  if (has_attribute(group, kMath)) for_each_fp16_attribute(state, read);
  for_each_scalar_dataset(state,
                          [&](const char* name, auto& value) { read_scalar(group, name, value); });
  state.m.assign(model.arena_size, 0.0f);
  state.v.assign(model.arena_size, 0.0f);
  for (const Parameter& p : model.parameters) {
    const std::string path = path_of(model, p);
    read_tensor(group, "m/" + path, "m/" + path, p, state.m);
    read_tensor(group, "v/" + path, "v/" + path, p, state.v);
  }
  return state;
}

Id open_image(std::span<const std::byte> image) {
  const Id access = h5::property_list(H5P_FILE_ACCESS);
  check(H5Pset_fapl_core(access, 4096, false) >= 0, "set up a file in memory");
  // The library does not write to a file that is opened read-only; it copies the image.
  check(H5Pset_file_image(access, const_cast<std::byte*>(image.data()), image.size()) >= 0,
        "hold the file in memory");
  return {H5Fopen("model.h5", H5F_ACC_RDONLY, access), H5Fclose, "open the file"};
}

}  // namespace

Contents parse_image(std::span<const std::byte> image) {
  h5::quiet();
  const Id file = open_image(image);
  Contents contents;
  contents.texts.model_config = read_model_config(file);
  contents.texts.training_config = read_text(file, "training_config");
  contents.texts.keras_version = read_text(file, "keras_version");
  contents.texts.backend = read_text(file, "backend");
  contents.format = read_text(file, kFormat);
  contents.digest = read_text(file, kDigest);

  const Model model = parse_model_config(contents.texts.model_config).model;
  if (model.arena_size * sizeof(float) > image.size() * kMaxInflation)
    fail(fmt::format("it is too small to hold the {} parameters of its model",
                     model.parameter_count()));
  contents.weights = read_weights(file, model);
  if (!contents.format.empty() && exists(file, kState))
    contents.state = read_state(file, model, contents.arch);
  return contents;
}

}  // namespace mnist::model_file
