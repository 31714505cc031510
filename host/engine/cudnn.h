// Whether this program can run on cuDNN and cuBLAS, for the commands: plain C++, no CUDA types.
#pragma once

#include <string>

namespace mnist {

// Why not, with the cure, in one line; empty if the backend and its libraries can be loaded.
std::string cudnn_unavailable_reason();
// "cuDNN 9.19.0, cuBLAS 13.1.0"; throws Error(kUnavailable) where unavailable.
std::string cudnn_versions();

}  // namespace mnist
