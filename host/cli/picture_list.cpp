#include "host/cli/picture_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <system_error>

#include "host/error.h"
#include "host/os/atomic_file.h"
#include "host/os/file_identity.h"
#include "host/os/posix_io.h"

namespace mnist::cli {
namespace {

namespace fs = std::filesystem;

// HEIC and AVIF are not read, but a folder of photos is not passed over without a word.
constexpr std::string_view kEndings[] = {".png", ".jpg",  ".jpeg", ".jpe",  ".gif", ".bmp",
                                         ".dib", ".webp", ".tif",  ".tiff", ".pnm", ".pbm",
                                         ".pgm", ".ppm",  ".heic", ".heif", ".avif"};

bool has_picture_name(const fs::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return char(std::tolower(c)); });
  const bool hidden = path.filename().string().starts_with(".");
  return !hidden &&
         std::find(std::begin(kEndings), std::end(kEndings), ending) != std::end(kEndings);
}

// Sorted. Throws fs::filesystem_error.
std::vector<std::string> pictures_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory))
    if (has_picture_name(entry.path()) && !fs::is_directory(entry.path()))
      names.push_back(entry.path().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string unique_stem(const std::string& name, std::set<std::string>& taken) {
  const std::string plain = name == "-" ? "stdin" : fs::path(name).stem().string();
  std::string stem = plain;
  for (int i = 2; !taken.insert(stem).second; ++i) stem = fmt::format("{}-{}", plain, i);
  return stem;
}

}  // namespace

PictureList list_pictures(const std::vector<std::string>& arguments) {
  PictureList list;
  list.several = arguments.size() > 1;
  std::set<std::string> stems;
  const auto add = [&](const std::string& name) {
    list.pictures.push_back({name, unique_stem(name, stems)});
  };
  for (const std::string& argument : arguments) {
    std::error_code error;
    if (!fs::is_directory(argument, error)) {
      add(argument);
      continue;
    }
    list.several = true;
    try {
      const std::vector<std::string> names = pictures_in(argument);
      std::for_each(names.begin(), names.end(), add);
      if (names.empty())
        list.problems.push_back(
            fmt::format("{}: there is no picture in this directory (folders below it are not "
                        "looked into)",
                        argument));
    } catch (const fs::filesystem_error& failure) {
      list.problems.push_back(
          fmt::format("{}: cannot be read: {}", argument, why_unreadable(failure.code().value())));
    }
  }
  return list;
}

PictureWriter::PictureWriter(const PictureList& list) {
  for (const ListedPicture& picture : list.pictures) taken_.insert(file_identity(picture.name));
}

void PictureWriter::write(const fs::path& path, std::span<const uint8_t> file) {
  const fs::path target = file_identity(path);
  if (taken_.contains(target))
    throw Error(ExitCode::kCannotCreate,
                fmt::format("cannot write {}: it is a picture that is read or written in this "
                            "run; choose another place",
                            path.string()));
  write_file_atomically(path, std::as_bytes(file));
  taken_.insert(target);
}

void make_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error && !fs::is_directory(path)) error = std::make_error_code(std::errc::not_a_directory);
  if (error)
    throw Error(ExitCode::kCannotCreate, fmt::format("cannot create the directory {}: {}",
                                                     path.string(), why_unwritable(error.value())));
}

}  // namespace mnist::cli
