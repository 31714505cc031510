// Whether two paths mean the same file.
#pragma once

#include <filesystem>
#include <system_error>

namespace mnist {

// The file that would be read or written, through links, also where it is not there yet.
inline std::filesystem::path file_identity(const std::filesystem::path& path) {
  constexpr int kMostLinks = 40;  // as Linux has it
  std::error_code error;
  std::filesystem::path found = path;
  for (int i = 0; i < kMostLinks && std::filesystem::is_symlink(found, error); ++i) {
    const std::filesystem::path target = std::filesystem::read_symlink(found, error);
    if (error) break;
    found = found.parent_path() / target;  // an absolute target replaces all of it
  }
  const std::filesystem::path canonical =
      std::filesystem::weakly_canonical(std::filesystem::absolute(found, error), error);
  return error ? path : canonical;
}

}  // namespace mnist
