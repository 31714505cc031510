// What the tables and the JSON of bench and check-backends share.
#pragma once

#include <fmt/format.h>
#include <algorithm>
#include <string>

#include "host/cli/output.h"
#include "host/engine/engine.h"

namespace mnist::cli {

// The first two columns of a table of operations, name and shape: as wide as the widest text.
class RowLabels {
 public:
  // `rows` have a `name` and a `shape`.
  template <typename Rows>
  explicit RowLabels(const Rows& rows) {
    for (const auto& row : rows) {
      name_ = std::max(name_, row.name.size());
      shape_ = std::max(shape_, row.shape.size());
    }
  }
  std::string head() const { return cells("name", "shape"); }
  template <typename Row>
  std::string of(const Row& row) const {
    return cells(row.name, row.shape);
  }

 private:
  std::string cells(const std::string& name, const std::string& shape) const {
    return fmt::format("{:<{}}  {:<{}}  ", name, name_, shape, shape_);
  }

  size_t name_ = 4, shape_ = 5;  // of the heads
};

// "cuda" or "cpu".
inline const char* name_of(Target target) {
  return target == Target::kCuda ? "cuda" : "cpu";
}

// The keys that a result about a device begins with.
inline Json device_json(const DeviceInfo& device) {
  return {{"device", device.name},
          {"target", name_of(device.target)},
          {"architecture", device.architecture}};
}

}  // namespace mnist::cli
