// The data sets: where their files are, reading and verifying them, downloading them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mnist {

struct ImageSet {
  int64_t count = 0;
  int height = 0, width = 0;
  std::vector<uint8_t> images;  // [count,height,width], 0 = background, 255 = ink
  std::vector<uint8_t> labels;  // [count], 0..9
};

struct Dataset {
  std::string name;       // as in DatasetRequest
  std::string source;     // the directory the files came from, or "built-in generator"
  bool verified = false;  // the raw bytes have the known SHA-256
  ImageSet train, test;
};

struct DatasetRequest {
  // "mnist", "fashion-mnist", "synthetic", or "idx": files of the user's own in data_dir, named as
  // MNIST's and of any number of 28x28 images with labels 0..9.
  std::string name = "mnist";
  std::filesystem::path data_dir;  // --data-dir; empty: CUDA_MNIST_DATA_DIR, else the cache
  bool download = true;  // fetch what is missing (only into the cache or CUDA_MNIST_DATA_DIR)
  int64_t limit = 0;     // first N training images; 0: all
};

// One line of text for the user, on stderr unless the caller has a better place.
using Message = std::function<void(const std::string&)>;
// Bytes so far and in all (0: unknown) of the file being fetched; false cancels.
using DownloadProgress = std::function<bool(const std::string& file, int64_t done, int64_t total)>;

// Throws Error: kUsage (unknown name), kMissingInput, kBadInput, kUnavailable (no mirror answered),
// kCannotCreate/kIoError (cache not writable), kInterrupted (progress said false).
Dataset load_dataset(const DatasetRequest& request, const Message& message,
                     const DownloadProgress& progress);

// `data fetch`, `data verify`, `data path`. fetch_dataset() puts what is missing into data_dir,
// where that is given.
std::filesystem::path data_directory(const DatasetRequest& request);
void fetch_dataset(const DatasetRequest& request, const Message& message,
                   const DownloadProgress& progress);
struct FileCheck {
  std::string file;     // path found, or the name looked for
  std::string verdict;  // "ok", or what is wrong and what to do
  bool ok = false;
};
std::vector<FileCheck> verify_dataset(const DatasetRequest& request);

}  // namespace mnist
