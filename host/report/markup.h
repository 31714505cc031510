// Foreign text in HTML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace mnist {

// `text` as the content of an element or of a quoted attribute. Whatever its bytes, the result is
// well-formed: what is not UTF-8, or no character that XML allows, becomes U+FFFD.
std::string escaped(std::string_view text);

}  // namespace mnist
