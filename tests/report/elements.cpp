#include "tests/report/elements.h"

#include <cctype>
#include <cstdlib>

namespace mnist::test {
namespace {

class Reader {
 public:
  explicit Reader(const std::string& xml) : xml_(xml) {}

  std::vector<Element> read() {
    while (at_ < xml_.size()) {
      if (xml_[at_] == '<')
        tag();
      else
        text();
    }
    if (!open_.empty()) fail("not closed: " + found_[open_.back()].tag);
    return std::move(found_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw std::runtime_error(why + " at " + xml_.substr(at_, 60));
  }
  char next() {
    if (at_ == xml_.size()) fail("it ends too early");
    return xml_[at_++];
  }
  void expect(char c) {
    if (next() != c) fail(std::string("no ") + c);
  }
  void skip_space() {
    while (at_ < xml_.size() && std::isspace(static_cast<unsigned char>(xml_[at_]))) ++at_;
  }
  std::string name() {
    const size_t begin = at_;
    while (at_ < xml_.size() &&
           (std::isalnum(static_cast<unsigned char>(xml_[at_])) || xml_[at_] == '-'))
      ++at_;
    if (begin == at_) fail("no name");
    return xml_.substr(begin, at_ - begin);
  }
  char character() {
    const char c = next();
    if (c == '<' || (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r'))
      fail("a character that must be escaped");
    if (c != '&') return c;
    const size_t end = xml_.find(';', at_);
    const std::string entity = xml_.substr(at_, end - at_);
    at_ = end + 1;
    const std::map<std::string, char> known{
        {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"#39", '\''}};
    if (known.count(entity) == 0) fail("unknown entity " + entity);
    return known.at(entity);
  }
  void text() {
    while (at_ < xml_.size() && xml_[at_] != '<') {
      const char c = character();
      if (!open_.empty())
        found_[open_.back()].text += c;
      else if (!std::isspace(static_cast<unsigned char>(c)))
        fail("text outside");
    }
  }
  void tag() {
    expect('<');
    if (xml_[at_] == '/') {
      ++at_;
      if (open_.empty() || name() != found_[open_.back()].tag) fail("closed too early");
      expect('>');
      open_.pop_back();
      return;
    }
    Element element;
    element.tag = name();
    for (skip_space(); xml_.at(at_) != '>' && xml_.at(at_) != '/'; skip_space()) {
      const std::string key = name();
      expect('=');
      expect('"');
      std::string value;
      while (xml_.at(at_) != '"') value += character();
      ++at_;
      if (!element.attributes.emplace(key, value).second) fail("twice: " + key);
    }
    found_.push_back(element);
    if (next() == '/')
      expect('>');
    else
      open_.push_back(found_.size() - 1);
  }

  const std::string& xml_;
  size_t at_ = 0;
  std::vector<Element> found_;
  std::vector<size_t> open_;
};

}  // namespace

std::vector<Element> parse_elements(const std::string& xml) {
  return Reader(xml).read();
}

std::vector<Element> elements(const std::string& xml, const std::string& tag,
                              const std::string& with_class) {
  std::vector<Element> found;
  for (const Element& element : parse_elements(xml))
    if (element.tag == tag && (with_class.empty() || element.has_class(with_class)))
      found.push_back(element);
  return found;
}

std::vector<Point> points(const std::string& path) {
  std::vector<Point> found;
  const char* at = path.c_str();
  while (*at != '\0') {
    const char command = *at++;
    char* end = nullptr;
    if (command == 'M' || command == 'L') {
      const double x = std::strtod(at, &end), y = std::strtod(end, &end);
      found.push_back({x, y, command == 'M'});
      at = end;
    } else {
      std::strtod(at, &end);  // h0
      at = end;
    }
  }
  return found;
}

}  // namespace mnist::test
