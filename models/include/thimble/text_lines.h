// The lines of a text that nobody vouches for.
//
//   std::ifstream in = open_text(path);
//   TextLines lines(in, path);
//   while (const auto line = lines.next()) ...
#pragma once

#include <cstdint>
#include <fstream>
#include <istream>
#include <optional>
#include <string>
#include <string_view>

namespace thimble {

inline constexpr std::int64_t kLongestLine = 1 << 20;  ///< bytes

/// Throws EnvironmentError where the file cannot be read, folders included.
std::ifstream open_text(const std::string& path);

/// Holds one block of the text at a time. A line ends with "\n" or "\r\n", the last one perhaps with neither; a byte
/// order mark before the first is dropped.
class TextLines {
 public:
  /// Messages call the text `name`; `in` has to outlive this.
  TextLines(std::istream& in, std::string name) : in_(in), name_(std::move(name)) {}

  /// The next line without its end, valid until the next call; nothing after the last. Throws BadInput, naming line,
  /// byte (both from 1) and value, for a line that is not UTF-8, holds a NUL byte or is longer than kLongestLine;
  /// EnvironmentError where reading fails.
  std::optional<std::string_view> next();
  /// Reads to the end, and returns how many lines the text has.
  std::int64_t count_rest();

  std::int64_t number() const { return number_; }  ///< of the last line returned, from 1
  const std::string& name() const { return name_; }
  /// Throws BadInput that names the text and the last line returned.
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  bool read_block();
  void check(std::string_view line) const;

  std::istream& in_;
  std::string name_;
  std::string block_;
  std::size_t begin_ = 0;  // of what has not been returned
  std::int64_t number_ = 0;
};

}  // namespace thimble
