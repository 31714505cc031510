// Named ranges for Nsight Systems, in the domain "cuda-mnist"; nothing where CMake did not find the
// NVTX headers (part of the CUDA Toolkit), and next to nothing where no profiler is attached. The
// README lists the names; tests/nvtx holds them to it.
#pragma once

#ifdef MNIST_HAVE_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace mnist {

class NvtxRange {
 public:
#ifdef MNIST_HAVE_NVTX
  explicit NvtxRange(const char* name) {
    nvtxEventAttributes_t attributes = {};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
    attributes.message.ascii = name;
    nvtxDomainRangePushEx(domain(), &attributes);
  }
  ~NvtxRange() {
    nvtxDomainRangePop(domain());
  }
#else
  explicit NvtxRange(const char*) {}
  ~NvtxRange() {}  // NOLINT(modernize-use-equals-default): else g++ calls a range unused
#endif
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;

#ifdef MNIST_HAVE_NVTX
 private:
  static nvtxDomainHandle_t domain() {
    static const nvtxDomainHandle_t handle = nvtxDomainCreateA("cuda-mnist");
    return handle;
  }
#endif
};

}  // namespace mnist
