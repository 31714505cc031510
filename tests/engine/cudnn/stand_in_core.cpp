// The stand-in's registry, and the CUDA runtime on host memory.
#include "tests/engine/cudnn/stand_in_core.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#include "tests/support/half.h"

namespace mnist::stand_in {
namespace {

struct StreamObject {
  static constexpr const char* kKind = "stream";
};

struct EventObject {
  static constexpr const char* kKind = "event";
  State::Clock clock;
};

void join(State::Clock& clock, const State::Clock& other) {
  for (const auto& [stream, number] : other) {
    uint64_t& known = clock[stream];
    known = std::max(known, number);
  }
}

void host_waits(const State::Clock& clock) {
  State& s = state();
  join(s.host, clock);
  std::erase_if(s.pending, [&](const auto& p) { return p.number <= s.host[p.launch.stream]; });
}

bool overlap(const std::vector<Range>& a, const std::vector<Range>& b) {
  for (const Range& one : a)
    for (const Range& other : b)
      if (one.overlaps(other)) return true;
  return false;
}

size_t bytes_spanned(const std::vector<size_t>& indices, Element element) {
  if (indices.empty()) return 0;
  return (*std::max_element(indices.begin(), indices.end()) + 1) * size_of(element);
}

double load(const std::byte* from, Element element) {
  if (element == Element::kHalf) {
    uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
    return test::from_half(bits);
  }
  float value = 0;
  std::memcpy(&value, from, sizeof value);
  return double(value);
}

void store(std::byte* to, double value, Element element) {
  if (element == Element::kHalf) {
    // Without saturation: from halfway to the next power of two on it is infinite.
    const double rounded =
        std::fabs(value) >= 65520 ? value * INFINITY : test::round_to_half(value);
    const uint16_t bits = test::half_bits(rounded);
    std::memcpy(to, &bits, sizeof bits);
    return;
  }
  const auto rounded = float(value);
  std::memcpy(to, &rounded, sizeof rounded);
}

}  // namespace

State& state() {
  static State state;
  return state;
}

const char* last_fault() {
  static std::string text;
  text = "stand-in: " + (state().faults.empty() ? "as a test asked" : state().faults.back());
  return text.c_str();
}

void reset() {
  State& s = state();
  s.faults.clear();
  s.launches.clear();
  s.calls.clear();
  s.failed.clear();
  s.fail_in = 0;
  s.device = 0;
  s.capturing = false;
  s.refuse_bias_gradient = s.refuse_fusion = s.refuse_determinism = s.refuse_half = false;
}

const std::vector<std::string>& faults() {
  return state().faults;
}
const std::vector<Launch>& launches() {
  return state().launches;
}
size_t unfinished() {
  return state().pending.size();
}
int device() {
  return state().device;
}
std::string failed_call() {
  return state().failed;
}
int calls(const std::string& function) {
  return state().calls[function];
}
void set_capturing(bool capturing) {
  state().capturing = capturing;
}
void refuse_bias_gradient(bool refuse) {
  state().refuse_bias_gradient = refuse;
}
void refuse_fusion(bool refuse) {
  state().refuse_fusion = refuse;
}
void refuse_determinism(bool refuse) {
  state().refuse_determinism = refuse;
}

void refuse_half(bool refuse) {
  state().refuse_half = refuse;
}

void fail_call(int number) {
  state().fail_in = number;
  state().failed.clear();
}

std::vector<std::string> alive() {
  std::vector<std::string> all;
  for (const auto& [handle, object] : state().objects) all.push_back(object.kind);
  for (const auto& [begin, bytes] : state().memory)
    all.push_back(std::to_string(bytes) + " bytes of device memory");
  return all;
}

Call::Call(std::string function, Kind kind) : function_(std::move(function)) {
  State& s = state();
  ++s.calls[function_];
  if (kind == Kind::kNeverFails) return;
  if (s.fail_in > 0 && --s.fail_in == 0) {
    fails_ = true;
    s.failed = function_;
  }
  if (kind == Kind::kNotWhileCapturing)
    require(!s.capturing, "called while a graph is being recorded");
}

void Call::fault(const std::string& what) {
  ++faults_;
  state().faults.push_back(function_ + ": " + what);
}

bool Call::require(bool holds, const std::string& what) {
  if (!holds) fault(what);
  return holds;
}

bool Call::in_memory(const char* name, const void* data, size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(data);
  auto block = state().memory.upper_bound(begin);
  const bool inside = block != state().memory.begin() &&
                      begin + bytes <= std::prev(block)->first + std::prev(block)->second;
  return require(inside, std::string(name) + ": " + std::to_string(bytes) +
                             " bytes that do not lie in one allocation");
}

void Call::reads(const char* name, const void* data, const std::vector<size_t>& indices,
                 Element element) {
  const size_t bytes = bytes_spanned(indices, element);
  if (!in_memory(name, data, bytes)) return;
  const auto* begin = static_cast<const std::byte*>(data);
  reads_.push_back({begin, begin + bytes});
  for (size_t i : indices) {
    constexpr unsigned char never[4] = {kPoison, kPoison, kPoison, kPoison};
    if (!require(std::memcmp(begin + i * size_of(element), never, size_of(element)) != 0,
                 std::string(name) + ": element " + std::to_string(i) + " was never written"))
      return;
  }
}

void Call::writes(const char* name, const void* data, const std::vector<size_t>& indices,
                  Element element) {
  const size_t bytes = bytes_spanned(indices, element);
  if (!in_memory(name, data, bytes)) return;
  const auto* begin = static_cast<const std::byte*>(data);
  writes_.push_back({begin, begin + bytes});
}

void Call::scratch(const void* data, size_t bytes) {
  if (bytes == 0 || !in_memory("workspace", data, bytes)) return;
  auto* begin = const_cast<std::byte*>(static_cast<const std::byte*>(data));
  for (const auto* ranges : {&reads_, &writes_})
    for (const Range& range : *ranges)
      if (!require(!range.overlaps({begin, begin + bytes}), "the workspace is an operand too"))
        return;
  writes_.push_back({begin, begin + bytes});
  std::memset(begin, kPoison, bytes);
}

void Call::copies(void* to, const void* from, size_t bytes) {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  writes_.push_back({target, target + bytes});
  reads_.push_back({source, source + bytes});
}

void Call::launch(cudaStream_t stream, const void* handle, bool in_place) {
  get<StreamObject>(stream);
  for (const Range& written : writes_)
    for (const Range& read : reads_) {
      const bool same = in_place && written.begin == read.begin && written.end == read.end;
      require(same || !written.overlaps(read), "an output overlaps an input");
    }
  State& s = state();
  const Launch launched{function_, stream, handle, reads_, writes_};
  State::Clock& clock = s.clocks[stream];
  join(clock, s.host);
  for (const auto& [other, number] : s.pending) {
    if (other.stream == stream || clock[other.stream] >= number) continue;
    require(handle == nullptr || handle != other.handle,
            "shares a handle with " + other.function + " on another stream at the same time");
    require(!overlap(writes_, other.writes) && !overlap(writes_, other.reads) &&
                !overlap(reads_, other.writes),
            "races with " + other.function + " on another stream");
  }
  const auto key = std::tuple(function_, handle, stream);
  require(!s.capturing || s.warm.contains(key),
          "first called on this stream while a graph is being recorded");
  if (!sound()) return;
  s.warm.insert(key);
  clock[stream] = ++s.issued[stream];
  s.pending.push_back({launched, clock[stream]});
  s.launches.push_back(launched);
}

void blend(void* to, const std::vector<size_t>& indices, const reference::Tensor& values,
           double alpha, double beta, Element element) {
  for (size_t i = 0; i < indices.size(); ++i) {
    std::byte* at = static_cast<std::byte*>(to) + indices[i] * size_of(element);
    store(at, alpha * values[i] + (beta == 0 ? 0 : beta * load(at, element)), element);
  }
}

reference::Tensor gather(const void* from, const std::vector<size_t>& indices, Element element) {
  reference::Tensor values;
  values.reserve(indices.size());
  for (size_t i : indices)
    values.push_back(load(static_cast<const std::byte*>(from) + i * size_of(element), element));
  return values;
}

}  // namespace mnist::stand_in

using namespace mnist::stand_in;

extern "C" {

cudaError_t cudaSetDevice(int device) {
  Call call("cudaSetDevice");
  if (call.fails()) return cudaErrorInvalidDevice;
  state().device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  Call call("cudaGetDevice");
  if (call.fails()) return cudaErrorUnknown;
  *device = state().device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  Call call("cudaMalloc", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return cudaErrorMemoryAllocation;
  // Aligned as by the real one.
  auto* memory = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{256}));
  std::memset(memory, kPoison, bytes);
  state().memory[memory] = bytes;
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  Call call("cudaFree", Call::Kind::kNeverFails);
  if (!call.require(state().memory.erase(static_cast<std::byte*>(pointer)) == 1,
                    "not the beginning of an allocation"))
    return cudaErrorInvalidValue;
  ::operator delete (pointer, std::align_val_t{256});
  host_waits(state().issued);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  Call call("cudaMemcpyAsync");
  if (call.fails()) return cudaErrorInvalidValue;
  call.copies(to, from, bytes);
  call.launch(stream, nullptr);
  if (call.sound()) std::memcpy(to, from, bytes);
  return call.sound() ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDeviceSynchronize() {
  Call call("cudaDeviceSynchronize", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return cudaErrorUnknown;
  host_waits(state().issued);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  Call call("cudaMemcpy", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return cudaErrorInvalidValue;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  Call call("cudaStreamCreateWithPriority");
  if (call.fails()) return cudaErrorMemoryAllocation;
  *stream = reinterpret_cast<cudaStream_t>(create<StreamObject>());
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return destroy<StreamObject>("cudaStreamDestroy", stream) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Call call("cudaStreamSynchronize", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return cudaErrorUnknown;
  host_waits(state().clocks[stream]);
  return call.get<StreamObject>(stream) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  Call call("cudaEventCreateWithFlags");
  if (call.fails()) return cudaErrorMemoryAllocation;
  *event = reinterpret_cast<cudaEvent_t>(create<EventObject>());
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return destroy<EventObject>("cudaEventDestroy", event) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Call call("cudaEventRecord");
  if (call.fails()) return cudaErrorUnknown;
  call.get<StreamObject>(stream);
  if (auto* object = call.get<EventObject>(event)) object->clock = state().clocks[stream];
  return call.sound() ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Call call("cudaStreamWaitEvent");
  if (call.fails()) return cudaErrorUnknown;
  call.get<StreamObject>(stream);
  if (const auto* object = call.get<EventObject>(event))
    join(state().clocks[stream], object->clock);
  return call.sound() ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Call call("cudaStreamIsCapturing");
  if (call.fails()) return cudaErrorUnknown;
  *status = state().capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return call.get<StreamObject>(stream) ? cudaSuccess : cudaErrorInvalidValue;
}

const char* cudaGetErrorName(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? "out of memory" : "a failure";
}

}  // extern "C"
