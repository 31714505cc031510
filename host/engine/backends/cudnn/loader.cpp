#include "host/engine/backends/cudnn/loader.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

#include "host/error.h"

namespace mnist::MNIST_TARGET {
namespace {

// NVIDIA's Debian packages for the CUDA version that this program was built with.
std::string packages() {
  const std::string major = std::to_string(CUDART_VERSION / 1000);
  const std::string minor = std::to_string(CUDART_VERSION % 1000 / 10);
  return "cudnn9-cuda-" + major + " and libcublas-" + major + '-' + minor;
}

[[noreturn]] void unavailable(const std::string& reason) {
  throw Error(ExitCode::kUnavailable, "the cudnn backend is not available: " + reason);
}

std::string last_error() {
  const char* error = dlerror();
  return error != nullptr ? error : "no reason given";
}

}  // namespace

const CudnnModule& load_cudnn_module(const std::string& file) {
  // Never unloaded: ops, and exceptions with their texts, may live as long as the program.
  void* module = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (module == nullptr) {
    const std::string error = last_error();
    if (error.rfind(file + ':', 0) == 0 && error.find("No such file") != std::string::npos)
      unavailable(file + " was not found; it is built where cuDNN 9 and cuBLAS are installed (" +
                  packages() + " from NVIDIA's repository): install them, and build again");
    unavailable(error + "; install NVIDIA's packages " + packages() +
                ", or name the directory of the libraries in LD_LIBRARY_PATH");
  }
  const auto* found = static_cast<const CudnnModule*>(dlsym(module, kCudnnModuleSymbol));
  if (found == nullptr) unavailable(last_error() + "; remove that file, and build again");
  if (found->abi != kCudnnModuleAbi)
    unavailable(file + " is of another version of this program; build both together");
  return *found;
}

const CudnnModule& load_cudnn_module() {
  std::error_code ignored;
  const std::filesystem::path beside =
      std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path() / kCudnnModuleFile;
  return load_cudnn_module(std::filesystem::exists(beside, ignored) ? beside.string()
                                                                    : kCudnnModuleFile);
}

}  // namespace mnist::MNIST_TARGET
