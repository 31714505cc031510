// HDF5 files as Keras and h5py write them, and as they had better not be: built in memory.
#pragma once

#include <string>
#include <vector>

#include "host/model_file/h5.h"

namespace mnist::test {

enum class Strings { kVariableUtf8, kVariableAscii, kNullPadded, kNullTerminated, kSpacePadded };

// A file under construction. Paths lead from the root; groups on the way are created.
class H5Builder {
 public:
  H5Builder();
  hid_t id() const { return file_; }
  void group(const std::string& path);
  void text(const std::string& object, const std::string& name, const std::string& value,
            Strings kind);
  void list(const std::string& object, const std::string& name,
            const std::vector<std::string>& items, Strings kind);
  // `type` is the type in the file; `creation` a property list.
  void dataset(const std::string& path, const std::vector<hsize_t>& shape,
               const std::vector<float>& values, hid_t type = H5T_IEEE_F32LE,
               hid_t creation = H5P_DEFAULT);
  void remove(const std::string& path);
  std::vector<std::byte> image() const;

 private:
  void strings(const std::string& object, const std::string& name,
               const std::vector<std::string>& items, Strings kind, hid_t space);

  h5::Id file_;
};

// 4x4 input, conv2d (2 filters 3x3, relu), flatten, dense (3, softmax).
extern const char* const kKeras3Config;
extern const char* const kKeras2Config;

// How a Keras release spells things.
struct KerasStyle {
  Strings strings = Strings::kVariableUtf8;
  std::string version = "3.15.1";
  std::string config = kKeras3Config;
  std::string weight_name = "sequential/%/kernel";  // % is the layer's name
  hid_t float_type = H5T_IEEE_F32LE;
  bool split_lists = false;
};

// The weights of that model in order: multiples of 1/64, which every floating-point type holds.
std::vector<float> keras_weights();

// Where the kernel of dense lies with the default style.
inline constexpr char kDenseKernel[] = "/model_weights/dense/sequential/dense/kernel";

// A whole-model file of that model.
H5Builder keras_file(const KerasStyle& style = {});

}  // namespace mnist::test
