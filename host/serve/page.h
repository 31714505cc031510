// The page's files, as the build put them into the program.
#pragma once

#include <span>
#include <string_view>

namespace mnist {

struct PageFile {
  std::string_view path;  // "/", "/style.css"
  std::string_view type;  // of its content
  std::string_view content;
};

std::span<const PageFile> page_files();

}  // namespace mnist
