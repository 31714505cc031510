// What this program is, and what it was built from.
#pragma once

#include <string>

namespace mnist::cli {

// "1a2b3c4d5e6f", with "-changed" if the sources were not those of the commit; empty where they
// were exported without git. commit.cmake writes its definition at every build.
std::string build_commit();
// "cuda-mnist 0.1.0, commit 1a2b3c4d5e6f"
std::string program_text();
// The lines that --version prints.
std::string version_text();

}  // namespace mnist::cli
