// Reads SVG, strictly: each element is closed, each attribute quoted, each character allowed.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace mnist::test {

struct Element {
  std::string tag;
  std::map<std::string, std::string> attributes;
  std::string text;  // its own, unescaped

  const std::string& operator[](const std::string& name) const { return attributes.at(name); }
  bool has_class(const std::string& name) const {
    const auto found = attributes.find("class");
    return found != attributes.end() &&
           (" " + found->second + " ").find(" " + name + " ") != std::string::npos;
  }
};

// In the order of their start tags. Throws std::runtime_error at the first fault.
std::vector<Element> parse_elements(const std::string& xml);

// Those with that tag, and that class if one is named.
std::vector<Element> elements(const std::string& xml, const std::string& tag,
                              const std::string& with_class = "");

// The points of a path's M and L commands.
struct Point {
  double x, y;
  bool starts;  // a new line
};
std::vector<Point> points(const std::string& path);

}  // namespace mnist::test
