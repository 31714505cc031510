// The data sets: where their files are, reading and verifying them, downloading them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "host/data/download.h"
#include "host/data/image_set.h"
#include "host/error.h"

namespace mnist {

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
  // --data-dir; empty: CUDA_MNIST_DATA_DIR, else the cache; then where packages and Keras keep it
  std::filesystem::path data_dir;
  bool download = true;  // fetch what is missing (only into the cache or CUDA_MNIST_DATA_DIR)
  int64_t limit = 0;     // first N training images; 0: all
};

// Throws Error: kUsage (unknown name), kMissingInput, kBadInput, kUnavailable (no mirror answered),
// kCannotCreate/kIoError (cache not writable), kInterrupted (progress said false).
Dataset load_dataset(const DatasetRequest& request, const Message& message,
                     const DownloadProgress& progress);

// `data fetch`, `data verify`, `data path`. fetch_dataset() puts what is missing into data_dir,
// where that is given.
std::filesystem::path data_directory(
    const DatasetRequest& request);  // where it is, or would be put
std::filesystem::path download_directory(const DatasetRequest& request);  // where it would be put
void fetch_dataset(const DatasetRequest& request, const Message& message,
                   const DownloadProgress& progress);
struct FileCheck {
  std::string file;     // path found ("PATH (ARRAY)" within an .npz), or the name looked for
  std::string verdict;  // "ok", or what is wrong and what to do
  bool ok = false;
  ExitCode code = ExitCode::kOk;  // kMissingInput, kBadInput
  std::filesystem::path from;     // the directory or .npz it is in; empty: not found
};
std::vector<FileCheck> verify_dataset(const DatasetRequest& request);

}  // namespace mnist
