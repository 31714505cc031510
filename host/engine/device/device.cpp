#include "host/engine/device/device.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <string>

#include "host/engine/device/device_buffer.h"
#include "host/engine/device/stream.h"
#include "kernels/kernels.h"

namespace mnist::MNIST_TARGET {

namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string explain(cudaError_t code) {
  int driver = 0, runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  switch (code) {
    case cudaErrorInsufficientDriver:
      if (driver == 0)
        return "no NVIDIA driver (libcuda.so.1) was found; install one, or start the container "
               "with --gpus all";
      return "the NVIDIA driver supports CUDA " + version_text(driver) +
             ", but this program needs " + version_text(runtime) + "; install a newer driver";
    case cudaErrorNoDevice:
      if (visible != nullptr)
        return std::string("no GPU is visible: CUDA_VISIBLE_DEVICES is '") + visible +
               "'; unset it, or name a GPU that nvidia-smi lists";
      return "the NVIDIA driver finds no GPU; see nvidia-smi, or start the container with --gpus "
             "all";
    case cudaErrorNoKernelImageForDevice:
      return "this program holds no code for this GPU's architecture; build it with "
             "-DCMAKE_CUDA_ARCHITECTURES=native";
    default:
      return std::string("CUDA does not start: ") + cudaGetErrorName(code) + " (" +
             cudaGetErrorString(code) + "); see nvidia-smi, or reboot after a driver update";
  }
}

// Success: there are `count` devices, at least one.
cudaError_t count_devices(int& count) {
  count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  return code == cudaSuccess && count == 0 ? cudaErrorNoDevice : code;
}

DeviceInfo describe(int device) {
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  DeviceInfo info;
  info.index = device;
  info.name = properties.name;
  info.multiprocessors = properties.multiProcessorCount;
#ifdef MNIST_SIMT
  info.target = Target::kCpu;
  info.architecture = "simt";
#else
  info.target = Target::kCuda;
  info.architecture = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
  info.total_memory = properties.totalGlobalMem;
  CUDA_CHECK(cudaDriverGetVersion(&info.driver_version));
#endif
  return info;
}

// Whether kernels really run: the only sure sign that there is code for this architecture.
void run_a_kernel() {
  Stream stream;
  DeviceBuffer<float> probe(4);
  glorot_uniform(probe.data(), probe.size(), 1, 1, 0, 0, stream);
  stream.synchronize();
}

}  // namespace

std::string unusable_reason() {
  int count = 0;
  const cudaError_t code = count_devices(count);
  if (code != cudaSuccess) return explain(code);
  try {
    run_a_kernel();
  } catch (const CudaError& error) {
    return explain(error.code());
  } catch (const OutOfMemory&) {
#ifdef MNIST_SIMT
    throw;  // no fault of the device: this program has no memory left
#else
    return "the GPU has no memory left; nvidia-smi shows which programs use it";
#endif
  }
  return "";
}

DeviceInfo device_info() {
  int device = 0;  // not device 0 if that is in exclusive mode and taken
  CUDA_CHECK(cudaGetDevice(&device));
  return describe(device);
}

DeviceInfo use_device() {
  DeviceInfo info = device_info();
  CUDA_CHECK(cudaSetDevice(info.index));
  return info;
}

std::vector<DeviceInfo> devices() {
  std::vector<DeviceInfo> list;
  int count = 0;
  if (count_devices(count) != cudaSuccess) return list;
  for (int device = 0; device < count; ++device) list.push_back(describe(device));
  return list;
}

std::string select_device(int index) {
  int count = 0;
  cudaError_t code = count_devices(count);
  if (code != cudaSuccess) return explain(code);
  if (index < 0 || index >= count) {
    std::string text = "there is no device " + std::to_string(index) + "; choose one of";
    for (const DeviceInfo& info : devices())
      text += (info.index == 0 ? " " : ", ") + std::to_string(info.index) + " (" + info.name + ")";
    return text;
  }
  code = cudaSetDevice(index);
  return code == cudaSuccess ? "" : explain(code);
}

void use_threads([[maybe_unused]] int threads) {
#ifdef MNIST_SIMT
  simt::set_os_threads(threads);
#endif
}

}  // namespace mnist::MNIST_TARGET
