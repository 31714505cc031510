// IDX, the format of the MNIST files, raw or gzipped:
//   0, 0, type (8: unsigned byte), rank; rank big-endian 32-bit sizes; the values, row-major.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "host/data/image_set.h"

namespace mnist {

inline constexpr uint8_t kIdxUnsignedByte = 8;

struct IdxFile {
  std::string name;             // for messages: the path; of an array in an .npz, "PATH (ARRAY)"
  std::vector<int64_t> sizes;   // one per dimension
  std::vector<uint8_t> values;  // row-major
  std::string sha256;           // of the raw bytes: header and values, before compression
};

// Accepts what is exactly one IDX array of `rank` dimensions of unsigned bytes and at most
// `max_values` of them, in whole gzip members or raw; nothing may follow it. Memory grows with the
// bytes that are there, not with what the header promises. Throws Error(kBadInput) "NAME: problem".
IdxFile parse_idx(std::span<const uint8_t> file, const std::string& name, int rank,
                  int64_t max_values);

// parse_idx of a file; throws Error(kMissingInput) also.
IdxFile read_idx(const std::filesystem::path& path, int rank, int64_t max_values);

// Takes over [N,28,28] images and [N] labels 0..9. Throws Error(kBadInput) for anything else.
ImageSet join_idx(IdxFile images, IdxFile labels);

}  // namespace mnist
