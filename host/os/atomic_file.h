// Files that are either old or new, never half of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace mnist {

// Writes a temporary beside `path`, fsyncs it, renames it over `path`, fsyncs the directory. On any
// failure the temporary is removed and Error(kCannotCreate or kIoError) names path and cause.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

// Throws Error(kCannotCreate) if a file of `bytes` bytes at `path` could not be created or replaced
// (missing or unwritable directory, a directory in its place, full disk). Leaves nothing behind.
void check_writable(const std::filesystem::path& path, size_t bytes = 4096);

}  // namespace mnist
