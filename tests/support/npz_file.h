// .npz files for the tests: archives and arrays as NumPy writes them, or not quite.
#pragma once

#include <zip.h>

#include <map>
#include <stdexcept>
#include <string>

#include "tests/support/data_files.h"

namespace mnist::test {

// An .npy file with this header text (NumPy: padded with blanks to a multiple of 64, then '\n').
inline Bytes npy(const std::string& header, const Bytes& values, uint8_t version = 1) {
  Bytes out = text_bytes("\x93NUMPY");
  out.push_back(version);
  out.push_back(0);
  const std::string text = header + std::string(63 - (header.size() + 10) % 64, ' ') + '\n';
  for (int byte = 0; byte < (version == 1 ? 2 : 4); ++byte)
    out.push_back(static_cast<uint8_t>(text.size() >> 8 * byte));
  return out + text_bytes(text) + values;
}
inline Bytes npy_array(const std::string& shape, const Bytes& values) {
  return npy("{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + ", }", values);
}

// A zip archive of these files.
inline Bytes zip_archive(const std::map<std::string, Bytes>& files,
                         zip_int32_t method = ZIP_CM_DEFLATE) {
  zip_error_t error;
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_source_keep(target);
  zip_t* archive = zip_open_from_source(target, ZIP_TRUNCATE, &error);
  for (const auto& [name, bytes] : files) {
    const zip_int64_t index = zip_file_add(
        archive, name.c_str(), zip_source_buffer(archive, bytes.data(), bytes.size(), 0), 0);
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), method, 0);
  }
  if (zip_close(archive) != 0) throw std::runtime_error("zip_close");
  zip_source_open(target);
  zip_source_seek(target, 0, SEEK_END);
  Bytes out(static_cast<size_t>(zip_source_tell(target)));
  zip_source_seek(target, 0, SEEK_SET);
  zip_source_read(target, out.data(), out.size());
  zip_source_close(target);
  zip_source_free(target);
  return out;
}

}  // namespace mnist::test
