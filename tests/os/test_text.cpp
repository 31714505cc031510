// Numbers as text.
#include "host/text.h"

#include <limits>

#include "tests/support/catch.h"

namespace mnist {

TEST_CASE("a number is the whole of a text", "[text]") {
  CHECK(parse_number<int>("12") == 12);
  CHECK(parse_number<int>("-12") == -12);
  CHECK(parse_number<float>("1e-3") == 1e-3f);
  for (const char* bad : {"", " 1", "1 ", "+1", "1e3", "0x10", "2147483648", "one"})
    CHECK_FALSE(parse_number<int>(bad));
  CHECK_FALSE(parse_number<float>("0,5"));
  CHECK_FALSE(parse_number<unsigned>("-1"));
}

TEST_CASE("names are shown without commands to the terminal", "[text]") {
  CHECK(visible("Ziffer \xC3\xBC.png") == "Ziffer \xC3\xBC.png");
  CHECK(visible("a\nb\x1b[31m\t\x7f") == "a\\nb\\x1b[31m\\x09\\x7f");
  CHECK(visible("\xC2\x9b\xC2\xA0") == "\\x9b\xC2\xA0");
  CHECK(visible("\xC2") == "\xC2");
}

TEST_CASE("digits are grouped by three", "[text]") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(225'034) == "225,034");
  CHECK(grouped(-999) == "-999");
  CHECK(grouped(-1'234'567) == "-1,234,567");
  CHECK(grouped(std::numeric_limits<int64_t>::min()) == "-9,223,372,036,854,775,808");
}

}  // namespace mnist
