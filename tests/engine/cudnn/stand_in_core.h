// What the stand-in's parts share: the calls' checks, the registry of objects, device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <typeindex>
#include <typeinfo>
#include <utility>
#include <vector>

#include "tests/engine/cudnn/stand_in.h"
#include "tests/support/reference.h"

namespace mnist::stand_in {

// Fresh memory and used workspaces: no arithmetic gives this NaN.
inline constexpr unsigned char kPoison = 0xFF;

enum class Element { kFloat, kHalf };
inline size_t size_of(Element element) {
  return element == Element::kHalf ? 2 : 4;
}

struct State {
  std::vector<std::string> faults;
  std::vector<Launch> launches;
  std::map<std::string, int> calls;
  int fail_in = 0;
  std::string failed;
  int device = 0;
  bool capturing = false;
  bool refuse_bias_gradient = false, refuse_fusion = false, refuse_determinism = false;
  bool refuse_half = false;

  struct Object {
    std::type_index type;
    std::string kind;
    std::shared_ptr<void> owner;
  };
  std::map<const void*, Object> objects;
  std::map<const std::byte*, size_t> memory;

  // What happens before what: of each stream, how much of every stream's work is done when its next
  // work begins. `host` is what the host has waited for.
  using Clock = std::map<cudaStream_t, uint64_t>;
  std::map<cudaStream_t, Clock> clocks;
  Clock issued, host;
  struct Pending {
    Launch launch;
    uint64_t number;  // within its stream
  };
  std::vector<Pending> pending;  // what the host has not waited for

  // Functions that have worked on a handle and stream: libraries prepare at the first call.
  std::set<std::tuple<std::string, const void*, cudaStream_t>> warm;
};
State& state();

// The libraries' text about what went wrong.
const char* last_fault();

// One call of a library function.
class Call {
 public:
  enum class Kind { kPlain, kNeverFails, kNotWhileCapturing };
  explicit Call(std::string function, Kind kind = Kind::kPlain);

  bool fails() const { return fails_; }  // because a test asked for it
  bool sound() const { return faults_ == 0; }
  void fault(const std::string& what);
  // Faults unless the condition holds; gives it back.
  bool require(bool holds, const std::string& what);

  // The object behind a handle or descriptor; null, with a fault, if it is not alive.
  template <typename T>
  T* get(const void* handle) {
    const auto found = state().objects.find(handle);
    if (found == state().objects.end() || found->second.type != typeid(T)) {
      fault(std::string("given a dead or foreign ") + T::kKind);
      return nullptr;
    }
    return static_cast<T*>(found->second.owner.get());
  }

  // The elements from `data` on must be in one allocation. Reading also requires that those at
  // `indices` were written before.
  void reads(const char* name, const void* data, const std::vector<size_t>& indices,
             Element element = Element::kFloat);
  void writes(const char* name, const void* data, const std::vector<size_t>& indices,
              Element element = Element::kFloat);
  void scratch(const void* data, size_t bytes);
  void copies(void* to, const void* from, size_t bytes);
  // In place: where a written operand may be one that is read. Faults where work that no event has
  // put before or after this uses the same memory, or the same handle.
  void launch(cudaStream_t stream, const void* handle, bool in_place = false);

 private:
  bool in_memory(const char* name, const void* data, size_t bytes);

  const std::string function_;
  bool fails_ = false;
  int faults_ = 0;
  std::vector<Range> reads_, writes_;
};

template <typename T>
T* create() {
  auto object = std::make_shared<T>();
  T* raw = object.get();
  state().objects.insert({raw, {typeid(T), T::kKind, std::move(object)}});
  return raw;
}

template <typename T>
bool destroy(const std::string& function, const void* handle) {
  Call call(function, Call::Kind::kNeverFails);
  if (call.get<T>(handle) == nullptr) return false;
  state().objects.erase(handle);
  return true;
}

// to[indices[i]] = alpha * values[i] + beta * to[indices[i]], in double, then rounded.
void blend(void* to, const std::vector<size_t>& indices, const reference::Tensor& values,
           double alpha, double beta, Element element = Element::kFloat);
reference::Tensor gather(const void* from, const std::vector<size_t>& indices,
                         Element element = Element::kFloat);

}  // namespace mnist::stand_in
