#include "bleu_words.h"

#include <wctype.h>

#include "thimble/error.h"
#include "utf8.h"

namespace thimble {
namespace {

// What Python's str.isspace() says.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_point(char c) { return c == '.' || c == ','; }

// Of ASCII, but for the apostrophe, the point, the comma and the dash.
bool is_split_off(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

// The rules of mteval-v13a are substitutions, each of them over the whole text before the next one. Where they look at
// two characters, a match takes both, so that the second cannot be the first of another. Bytes will do: what they look
// for is ASCII, and any byte of a longer character is no digit.
std::string split_punctuation(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (is_split_off(c))
      out.append(1, ' ').append(1, c).append(1, ' ');
    else
      out += c;
  }
  return out;
}

template <class First, class Second>
std::string substitute_pairs(std::string_view text, First first, Second second, bool space_before, bool space_after) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i + 1 == text.size() || !first(text[i]) || !second(text[i + 1])) {
      out += text[i];
      continue;
    }
    if (space_before) out += ' ';
    out.append(1, text[i]).append(1, ' ').append(1, text[i + 1]);
    ++i;
    if (space_after) out += ' ';
  }
  return out;
}

std::string tokenize_13a(std::string text) {
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  replace_all(text, "&quot;", "\"");
  replace_all(text, "&amp;", "&");
  replace_all(text, "&lt;", "<");
  replace_all(text, "&gt;", ">");
  const auto is_no_digit = [](char c) { return !is_digit(c); };
  const auto is_dash = [](char c) { return c == '-'; };
  text = split_punctuation(" " + text + " ");
  text = substitute_pairs(text, is_no_digit, is_point, false, true);
  text = substitute_pairs(text, is_point, is_no_digit, true, false);
  return substitute_pairs(text, is_digit, is_dash, false, true);
}

// Where the white space at the end begins.
std::size_t text_end(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();)
    if (!is_space(next_character(text, at))) end = at;
  return end;
}

}  // namespace

WordRules::WordRules(const BleuOptions& options) : options_(options) {
  if (!options.lower_case) return;
  characters_ = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (characters_ == nullptr) throw EnvironmentError("bleu: the C library has no locale C.UTF-8 to lower-case with");
}

WordRules::~WordRules() {
  if (characters_ != nullptr) ::freelocale(characters_);
}

std::string WordRules::lower_case(std::string_view text) const {
  std::string lower;
  lower.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    if (c == 0x130)
      lower += "i\xcc\x87";  // the one character that becomes two
    else
      append_character(lower, static_cast<char32_t>(::towlower_l(static_cast<wint_t>(c), characters_)));
  }
  return lower;
}

std::string WordRules::prepare(std::string_view text, const std::string& what) const {
  if (const std::size_t bad = first_bad_utf8(text); bad != std::string_view::npos)
    throw InvalidArgument("bleu: byte " + std::to_string(bad + 1) + " of " + what + " is not UTF-8");
  std::string prepared = options_.lower_case ? lower_case(text) : std::string(text);
  if (options_.tokens == BleuTokens::none) return prepared;
  prepared.resize(text_end(prepared));  // or a dash before the last line's end would go
  return tokenize_13a(std::move(prepared));
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  std::size_t word = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (!is_space(next_character(text, at))) continue;
    if (begin > word) words.push_back(text.substr(word, begin - word));
    word = at;
  }
  if (word < text.size()) words.push_back(text.substr(word));
  return words;
}

}  // namespace thimble
