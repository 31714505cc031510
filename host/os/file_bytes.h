// Whole files in memory, and words for what a file turned out to be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mnist {

// All bytes of a regular file of at most `limit` bytes. Throws Error: kMissingInput (absent or
// unreadable), kBadInput (a directory or device, too long, read error).
std::vector<uint8_t> read_file_bytes(const std::filesystem::path& path, size_t limit);

// The same of whatever can be read to its end, such as a pipe, whose writer is waited for; "-" is
// standard input.
std::vector<uint8_t> read_stream_bytes(const std::filesystem::path& path, size_t limit);

// What the bytes begin with, for a message: "an HTML page", "a PNG picture", "bytes 00 01 02 03".
std::string describe_bytes(std::span<const uint8_t> bytes);

// "47.0 MB", in units of 1000.
std::string describe_size(uint64_t bytes);

}  // namespace mnist
