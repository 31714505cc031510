#include "host/cli/version.h"

#include <fmt/format.h>
#include <hdf5.h>

#include "host/engine/engine.h"

namespace mnist::cli {

std::string program_text() {
  const std::string commit = build_commit();
  return fmt::format("cuda-mnist {}{}", MNIST_VERSION, commit.empty() ? "" : ", commit " + commit);
}

std::string version_text() {
  const std::string commit = build_commit(), cuda = compiled_architectures();
  return fmt::format(
      "cuda-mnist {}\ncommit: {}\ncompiler: {} {}\nHDF5: {}.{}.{}\ntargets: {}\n", MNIST_VERSION,
      commit.empty() ? "none (built from sources without git)" : commit,
#ifdef __clang__
      "clang", __clang_version__,
#else
      "gcc", __VERSION__,
#endif
      H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE,
      cuda.empty()
          ? "cpu"
          : fmt::format("cuda (toolkit {}, architectures {}), cpu", MNIST_CUDA_TOOLKIT, cuda));
}

}  // namespace mnist::cli
