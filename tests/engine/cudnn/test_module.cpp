// Loading the module: what the user is told when it does not work.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "host/engine/backends/cudnn/loader.h"
#include "host/error.h"
#include "tests/support/catch.h"

namespace mnist::MNIST_TARGET {
namespace {

std::string refusal(const std::string& file) {
  try {
    load_cudnn_module(file);
  } catch (const Error& error) {
    REQUIRE(error.code() == ExitCode::kUnavailable);
    return error.what();
  }
  return "";
}

TEST_CASE("a cudnn module that is not there", "[cudnn]") {
  const std::string packages = "cudnn9-cuda-" + std::to_string(CUDART_VERSION / 1000) +
                               " and libcublas-" + std::to_string(CUDART_VERSION / 1000) + "-" +
                               std::to_string(CUDART_VERSION % 1000 / 10);
  for (const std::string file : {"/nowhere/cuda-mnist-cudnn.so", "cuda-mnist-no-such-module.so"}) {
    const std::string text = refusal(file);
    INFO(text);
    REQUIRE(text.find("the cudnn backend is not available: " + file + " was not found") == 0);
    REQUIRE(text.find(packages) != std::string::npos);
    REQUIRE(text.find('\n') == std::string::npos);
  }
}

TEST_CASE("a cudnn module without its libraries", "[cudnn]") {
  const std::string text = refusal(MNIST_MODULE_WITHOUT_LIBRARY);
  INFO(text);
  // The linker names what is missing.
  REQUIRE(text.find("cudnn_of_no_library") != std::string::npos);
  REQUIRE(text.find("install NVIDIA's packages") != std::string::npos);
  REQUIRE(text.find("LD_LIBRARY_PATH") != std::string::npos);
}

TEST_CASE("a cudnn module of another version, and files that are none", "[cudnn]") {
  REQUIRE(refusal(MNIST_MODULE_OF_ANOTHER_VERSION).find("is of another version of this program") !=
          std::string::npos);
  const std::string text = refusal("libm.so.6");
  INFO(text);
  REQUIRE(text.find("undefined symbol: cuda_mnist_cudnn_module") != std::string::npos);

  const auto file = std::filesystem::temp_directory_path() /
                    ("cuda-mnist-not-a-module-" + std::to_string(getpid()) + ".so");
  std::ofstream(file) << "not a library";
  REQUIRE(refusal(file.string()).find("file too short") != std::string::npos);
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
