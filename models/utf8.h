// Text as UTF-8: where it is damaged, and its characters one by one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace thimble {

/// Where the first sequence begins that is not well-formed (the Unicode standard's table 3-7: nothing overlong, no
/// surrogate, nothing above U+10FFFF, nothing cut off); npos where there is none.
std::size_t first_bad_utf8(std::string_view text);

/// The character that begins at `at` of well-formed text; moves `at` behind it.
char32_t next_character(std::string_view text, std::size_t& at);

void append_character(std::string& text, char32_t character);

/// Of ASCII: what separates pieces of a line.
constexpr bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace thimble
