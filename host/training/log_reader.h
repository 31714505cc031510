// Reads a training log: this program's, or one of Keras' CSVLogger.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "host/training/training_log.h"

namespace mnist {

struct LogContent {
  // In the order of their epochs, without repetition; NaN where the file has no number.
  std::vector<EpochResult> rows;
  std::vector<std::string> remarks;  // what of the file is not in them, and why: a line each
};

// The header names the columns: epoch, and at least one of loss, accuracy, val_loss, val_accuracy,
// in any order; others are left out. Epochs that count from 0, as Keras' do, become 1, 2, ... Of
// several runs one after the other the last one counts. Damaged rows are left out, with a remark.
// Throws Error: kMissingInput; kBadInput if it is no such file or has no row that can be read.
LogContent read_training_log(const std::filesystem::path& path);

}  // namespace mnist
