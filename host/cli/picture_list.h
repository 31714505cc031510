// Which pictures a command line means, and what is named after them.
#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace mnist::cli {

struct ListedPicture {
  std::string name;  // as the user knows it; "-" is standard input
  std::string stem;  // for the names of files about it; no other picture of the list has it
};

struct PictureList {
  std::vector<ListedPicture> pictures;
  bool several = false;  // there may be more than one: more than one argument, or a directory
  std::vector<std::string> problems;  // a line for each directory that gives none
};

// `arguments`: files, pipes, "-", and directories, which stand for the pictures in them (by the
// endings of their names; not in folders below), sorted by name.
PictureList list_pictures(const std::vector<std::string>& arguments);

// Writes files, but never over a picture that is to be read, nor over one of its own.
class PictureWriter {
 public:
  explicit PictureWriter(const PictureList& list);

  // Throws Error(kCannotCreate or kIoError).
  void write(const std::filesystem::path& path, std::span<const uint8_t> file);

 private:
  std::set<std::filesystem::path> taken_;
};

// Creates it, with all above it, unless it is there. Throws Error(kCannotCreate).
void make_directory(const std::filesystem::path& path);

}  // namespace mnist::cli
