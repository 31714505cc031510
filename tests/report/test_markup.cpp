// Foreign text in pages and figures.
#include "host/report/markup.h"
#include "tests/report/elements.h"
#include "tests/support/catch.h"
#include "tests/support/random.h"

namespace mnist {
namespace {

const std::string kReplaced = "\xef\xbf\xbd";

}  // namespace

TEST_CASE("what is special in markup is escaped", "[markup]") {
  CHECK(escaped("a<b>&\"c'") == "a&lt;b&gt;&amp;&quot;c&#39;");
  CHECK(escaped("]]>") == "]]&gt;");
  CHECK(escaped("tab\tline\n") == "tab\tline\n");
  CHECK(escaped("") == "");
}

TEST_CASE("UTF-8 stays, and what is none is replaced byte by byte", "[markup]") {
  for (const char* text : {"\xc3\xb6", "\xe2\x82\xac", "\xf0\x9f\x94\xa2", "\xef\xbf\xbd",
                           "\xc2\xa0", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbd"})
    CHECK(escaped(text) == text);
  const std::pair<const char*, int> broken[] = {
      {"\xff", 1},              // no such byte
      {"\x80", 1},              // goes on with nothing
      {"\xc3", 1},              // cut off
      {"\xe2\x82", 2},          // cut off
      {"\xc0\xaf", 2},          // '/' in too many bytes
      {"\xe0\x80\xaf", 3},      // the same
      {"\xf0\x80\x80\xaf", 4},  // the same
      {"\xed\xa0\x80", 3},      // half of a surrogate pair
      {"\xef\xbf\xbf", 3},      // U+FFFF is no character
      {"\xf4\x90\x80\x80", 4},  // above U+10FFFF
      {"\x01", 1},              // control characters
      {"\x7f", 1},
      {"\xc2\x85", 2},
      {"\xe0\x82\xa9", 3},  // a letter in too many bytes
  };
  for (const auto& [text, bytes] : broken) {
    std::string expected = "a";
    for (int i = 0; i < bytes; ++i) expected += kReplaced;
    CHECK(escaped(std::string("a") + text + "<") == expected + "&lt;");
  }
  CHECK(escaped(std::string("\0x", 2)) == kReplaced + "x");
}

TEST_CASE("whatever the bytes, the markup is well-formed", "[markup]") {
  Random random;
  for (int run = 0; run < 200; ++run) {
    std::string bytes;
    for (int i = 0; i < 40; ++i) bytes += char(random.integer(0, 255));
    const std::string text = escaped(bytes);
    REQUIRE_NOTHROW(test::parse_elements("<a b=\"" + text + "\">" + text + "</a>"));
  }
}

}  // namespace mnist
