#include "thimble/text_lines.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "thimble/error.h"
#include "utf8.h"

namespace thimble {
namespace {

constexpr std::size_t kBlock = 1 << 16;

std::string hexadecimal(char byte) {
  char text[5];
  std::snprintf(text, sizeof text, "0x%02x", static_cast<unsigned>(static_cast<unsigned char>(byte)));
  return text;
}

}  // namespace

std::ifstream open_text(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw EnvironmentError("cannot read '" + path + "': it is a folder");
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw EnvironmentError("cannot read '" + path + "': " + std::strerror(errno));
  return in;
}

bool TextLines::read_block() {
  block_.erase(0, begin_);
  begin_ = 0;
  const std::size_t kept = block_.size();
  block_.resize(kept + kBlock);
  in_.read(block_.data() + kept, kBlock);
  if (in_.bad()) throw EnvironmentError("cannot read '" + name_ + "'");
  block_.resize(kept + static_cast<std::size_t>(in_.gcount()));
  return block_.size() > kept;
}

std::optional<std::string_view> TextLines::next() {
  std::size_t end = block_.find('\n', begin_);
  while (end == std::string::npos) {
    const std::size_t seen = block_.size() - begin_;
    if (seen > kLongestLine) break;
    if (!read_block()) break;
    end = block_.find('\n', seen);
  }
  if (end == std::string::npos && begin_ == block_.size()) return std::nullopt;
  ++number_;
  std::string_view line = std::string_view(block_).substr(begin_, end == std::string::npos ? end : end - begin_);
  begin_ += line.size() + (end == std::string::npos ? 0 : 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (number_ == 1 && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);
  check(line);
  return line;
}

void TextLines::check(std::string_view line) const {
  if (static_cast<std::int64_t>(line.size()) > kLongestLine)
    refuse("is longer than " + std::to_string(kLongestLine) + " bytes");
  const auto refuse_byte = [&](std::size_t at, const char* what) {
    refuse("byte " + std::to_string(at + 1) + " (" + hexadecimal(line[at]) + ") " + what);
  };
  if (const std::size_t at = line.find('\0'); at != std::string_view::npos) refuse_byte(at, "is no text");
  if (const std::size_t at = first_bad_utf8(line); at != std::string_view::npos) refuse_byte(at, "is not UTF-8");
}

std::int64_t TextLines::count_rest() {
  while (next()) continue;
  return number_;
}

void TextLines::refuse(const std::string& what) const {
  throw BadInput(name_ + ": line " + std::to_string(number_) + ": " + what);
}

}  // namespace thimble
