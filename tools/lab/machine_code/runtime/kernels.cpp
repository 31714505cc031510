#include "tools/lab/machine_code/runtime/kernels.h"

#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tools/lab/machine_code/runtime/executor.h"
#include "tools/lab/machine_code/runtime/work.h"

namespace machine_code {

struct Kernel {
  std::string name;
  std::vector<size_t> sizes;  // of the parameters, in order; empty until it is first launched
};

namespace {

std::string fault;
double device_us = 0;
bool all_ended = true;

std::map<const void*, Kernel>& kernels() {
  static std::map<const void*, Kernel> registered;  // used before this file's own are made
  return registered;
}

bool learn_sizes(Kernel& kernel) {
  if (!kernel.sizes.empty()) return true;
  const Answer answer = ask("{\"parameters\": \"" + kernel.name + "\"}");
  if (!answer.good) {
    fault = answer.text;
    return false;
  }
  std::istringstream words(answer.text);
  for (size_t size; words >> size;) kernel.sizes.push_back(size);
  return true;
}

std::string numbers(dim3 d) {
  return "[" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + "]";
}

std::string hex(const void* bytes, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<const unsigned char*>(bytes)[i]);
    text += digits;
  }
  return text;
}

}  // namespace

Kernel* find_kernel(const void* function) {
  const auto found = kernels().find(function);
  return found == kernels().end() ? nullptr : &found->second;
}

const char* name_of(const Kernel* kernel) {
  return kernel->name.c_str();
}

const char* last_fault() {
  return fault.c_str();
}

void everything_ended() {
  if (!all_ended) ask("{\"ended\": \"everything\"}");
  all_ended = true;
}

double device_seconds() {
  return device_us * 1e-6;
}

cudaError_t launch(Kernel* kernel, dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                   bool dependent, cudaStream_t stream) {
  if (arena().address == nullptr) return cudaErrorNoDevice;
  if (!learn_sizes(*kernel)) return cudaErrorInvalidDeviceFunction;
  std::string values;  // copied now, as CUDA does
  for (size_t i = 0; i < kernel->sizes.size(); ++i)
    values += (i == 0 ? "\"" : ", \"") + hex(arguments[i], kernel->sizes[i]) + "\"";
  const std::string what =
      "{\"kernel\": \"" + kernel->name + "\", \"grid\": " + numbers(grid) +
      ", \"block\": " + numbers(block) + ", \"shared\": " + std::to_string(shared_bytes) +
      ", \"dependent\": " + (dependent ? "true" : "false") + ", \"arguments\": [" + values + "]}";
  return put(stream, what, [what] {
    all_ended = false;
    const Answer answer = ask(what);
    if (answer.good) {
      device_us += answer.text.empty() ? 1.0 : std::stod(answer.text);
      return cudaSuccess;
    }
    fault = answer.text;
    return cudaErrorLaunchFailure;
  });
}

}  // namespace machine_code

// ---- called by code that nvcc makes -------------------------------------------------------------
extern "C" {

void** __cudaRegisterFatBinary(void* binary) {
  return static_cast<void**>(binary);
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) {
  return 1;
}

void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  machine_code::kernels()[function].name = name;
}

// The host function of a kernel asks for its own handle, and launches what <<<>>> has pushed.
cudaError_t __cudaGetKernel(cudaKernel_t* handle, const void* function) {
  *handle = reinterpret_cast<cudaKernel_t>(machine_code::find_kernel(function));
  return *handle == nullptr ? cudaErrorInvalidDeviceFunction : cudaSuccess;
}
// Nothing does: launch.h launches by cudaLaunchKernelEx.
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) {
  return cudaErrorNotSupported;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  return cudaErrorNotSupported;
}

}  // extern "C"
