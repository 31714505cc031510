// A tool for NVTX to load (NVTX_INJECTION64_PATH): writes each call that names a domain or opens or
// closes a range as a line to the file that NVTX_RECORDER_FILE names. Threads are numbered from 0
// as they appear, a range's depth counts from 0 in its thread and domain:
//   domain NAME
//   push THREAD DEPTH DOMAIN<tab>NAME
//   pop THREAD DEPTH DOMAIN
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace {

struct Domain {
  std::string name;
  std::map<int, int> depth;  // by thread; below 0 after a pop without its push
};

std::mutex mutex;
std::FILE* file = nullptr;

int thread_number() {  // under the mutex
  static int threads = 0;
  thread_local const int number = threads++;
  return number;
}

Domain* domain_of(nvtxDomainHandle_t handle) {
  return reinterpret_cast<Domain*>(handle);
}

nvtxDomainHandle_t NVTX_API create_domain(const char* name) {
  const std::lock_guard lock(mutex);
  std::fprintf(file, "domain %s\n", name);
  return reinterpret_cast<nvtxDomainHandle_t>(
      new Domain{name, {}});  // lives as long as the program
}

int NVTX_API push(nvtxDomainHandle_t handle, const nvtxEventAttributes_t* attributes) {
  const std::lock_guard lock(mutex);
  const int thread = thread_number();
  const int depth = domain_of(handle)->depth[thread]++;
  const bool plain = attributes->messageType == NVTX_MESSAGE_TYPE_ASCII;
  std::fprintf(file, "push %d %d %s\t%s\n", thread, depth, domain_of(handle)->name.c_str(),
               plain ? attributes->message.ascii : "(not plain text)");
  return depth;
}

int NVTX_API pop(nvtxDomainHandle_t handle) {
  const std::lock_guard lock(mutex);
  const int thread = thread_number();
  const int depth = --domain_of(handle)->depth[thread];
  std::fprintf(file, "pop %d %d %s\n", thread, depth, domain_of(handle)->name.c_str());
  return depth;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(
    NvtxGetExportTableFunc_t export_table) {
  const char* path = std::getenv("NVTX_RECORDER_FILE");
  if (path == nullptr || (file = std::fopen(path, "w")) == nullptr) return 0;
  std::setvbuf(file, nullptr, _IOLBF, 0);
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
  if (callbacks == nullptr) return 0;
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
  if (size <= NVTX_CBID_CORE2_DomainCreateA) return 0;
  *table[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(&create_domain);
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  return 1;
}
