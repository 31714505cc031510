// training_log.csv: epoch,loss,accuracy,val_loss,val_accuracy; one row per epoch, flushed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "host/os/posix_io.h"

namespace mnist {

struct EpochResult {
  int64_t epoch = 0;  // from 1
  double loss = 0, accuracy = 0, val_loss = 0, val_accuracy = 0;
};

class TrainingLog {
 public:
  // Starts a new file with the header, or (resume_bytes > 0) goes on after the first resume_bytes
  // of an existing one, cutting off what follows. Throws Error: kCannotCreate, kIoError;
  // kMissingInput if there is no file to go on with, kBadInput if it is shorter than that or not
  // such a log.
  TrainingLog(const std::filesystem::path& path, uint64_t resume_bytes);

  void append(const EpochResult& row);  // written and flushed; throws Error(kIoError)
  // Returns when all rows so far are on disk, where the file is on one; throws Error(kIoError). May
  // run on another thread than append().
  void sync() const;
  uint64_t bytes() const { return bytes_; }

 private:
  FileDescriptor fd_;
  std::filesystem::path path_;
  uint64_t bytes_ = 0;
};

// Shortest decimal digits that read back as the same double, as Python's repr writes them.
std::string shortest_decimal(double value);

}  // namespace mnist
