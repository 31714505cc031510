// The HDF5 C API with owned identifiers and checked results.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "host/error.h"

namespace mnist::h5 {

// `what` completes "HDF5 cannot ...".
inline void check(bool success, const char* what) {
  if (!success) throw Error(ExitCode::kInternal, std::string("HDF5 cannot ") + what);
}

// Owns one identifier.
class Id {
 public:
  using Close = herr_t (*)(hid_t);
  Id(hid_t id, Close close, const char* what) : id_(id), close_(close) { check(id >= 0, what); }
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Id() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  Close close_;
};

inline Id property_list(hid_t list_class) {
  return {H5Pcreate(list_class), H5Pclose, "create a property list"};
}

// The library prints nothing (the caller reports), and loads no code that a file asks for.
inline void quiet() {
  check(H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0, "silence its messages");
  check(H5PLset_loading_state(0) >= 0, "switch plugins off");
}

// The bytes of an open file.
inline std::vector<std::byte> image_of(hid_t file) {
  check(H5Fflush(file, H5F_SCOPE_LOCAL) >= 0, "complete a file in memory");
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  check(size > 0, "tell the size of a file in memory");
  std::vector<std::byte> image(size_t(size), std::byte{0});
  check(H5Fget_file_image(file, image.data(), image.size()) == size, "copy a file in memory");
  return image;
}

}  // namespace mnist::h5
