// NumPy's .npz, the form in which Keras keeps MNIST: a zip archive of .npy arrays.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "host/data/idx.h"

namespace mnist {

// The array `array` ("x_train") of an archive, as the IDX file that holds the same values: sha256
// is that of the IDX header and the values. Accepts what is exactly a C-ordered array of `rank`
// dimensions of unsigned bytes, at most `max_values` of them. The archive may come from anywhere:
// nothing in it is evaluated, and memory is bounded by max_values. Throws Error(kBadInput)
// "NAME (ARRAY): problem".
IdxFile parse_npz(std::span<const uint8_t> archive, const std::string& name,
                  const std::string& array, int rank, int64_t max_values);

// parse_npz of a file; throws Error(kMissingInput) also.
IdxFile read_npz(const std::filesystem::path& path, const std::string& array, int rank,
                 int64_t max_values);

}  // namespace mnist
