#include "thimble/problem_csv.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <ostream>
#include <unordered_set>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 62;
enum Column : std::size_t { kId, kLower, kUpper, kEnd, kSize, kOffset, kColumns };
constexpr std::array<std::string_view, kColumns> kNames = {"id", "lower", "upper", "end", "size", "offset"};

/// Values of a hostile file in messages: bounded, and nothing that a terminal would obey.
std::string quoted(std::string_view value) {
  std::string text = "'";
  for (const char c : value.substr(0, 40)) text += c >= ' ' && c <= '~' ? c : '?';
  return text + (value.size() > 40 ? "...'" : "'");
}

class Reader {
 public:
  Reader(std::string_view text, std::string_view name) : rest_(text), name_(name) {}
  ProblemFile read();

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw BadInput(std::string(name_) + ":" + std::to_string(line_) + ": " + why);
  }
  bool next_line();
  void split();
  void read_header();
  std::int64_t number(Column column, std::int64_t low, std::int64_t high) const;
  Buffer read_buffer();

  std::string_view rest_;
  std::string_view name_;
  std::int64_t line_ = 0;
  std::string_view current_;
  std::vector<std::string_view> fields_;
  std::array<std::optional<std::size_t>, kColumns> position_;
  std::size_t width_ = 0;
  std::unordered_set<std::string_view> ids_;  // looked up only, never walked
  std::int64_t sum_ = 0;
};

/// Steps over empty lines; false at the end of the text.
bool Reader::next_line() {
  while (!rest_.empty()) {
    ++line_;
    const std::size_t end = rest_.find('\n');
    current_ = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view{} : rest_.substr(end + 1);
    if (!current_.empty() && current_.back() == '\r') current_.remove_suffix(1);
    if (!current_.empty()) return true;
  }
  return false;
}

void Reader::split() {
  fields_.clear();
  std::string_view left = current_;
  for (std::size_t comma; (comma = left.find(',')) != std::string_view::npos; left.remove_prefix(comma + 1))
    fields_.push_back(left.substr(0, comma));
  fields_.push_back(left);
}

void Reader::read_header() {
  if (!next_line()) refuse("the file is empty; expected the header id,lower,upper,size[,offset]");
  split();
  width_ = fields_.size();
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    const auto found = std::find(kNames.begin(), kNames.end(), fields_[i]);
    if (found == kNames.end())
      refuse("unknown column " + quoted(fields_[i]) + "; known are id, lower, upper or end, size, offset");
    auto& position = position_[static_cast<std::size_t>(found - kNames.begin())];
    if (position) refuse("column " + quoted(fields_[i]) + " comes twice");
    position = i;
  }
  for (const Column column : {kId, kLower, kSize})
    if (!position_[column]) refuse("column " + quoted(kNames[column]) + " is missing");
  if (position_[kUpper].has_value() == position_[kEnd].has_value())
    refuse("exactly one of the columns 'upper' (exclusive) and 'end' (inclusive) is needed");
}

std::int64_t Reader::number(Column column, std::int64_t low, std::int64_t high) const {
  const std::string_view field = fields_[*position_[column]];
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  const std::string what = "column '" + std::string(kNames[column]) + "': " + quoted(field);
  if (error == std::errc::invalid_argument || end != field.data() + field.size())
    refuse(what + " is not a whole number");
  if (error != std::errc{} || value < low || value > high)
    refuse(what + " is outside " + std::to_string(low) + ".." + std::to_string(high));
  return value;
}

Buffer Reader::read_buffer() {
  split();
  if (fields_.size() != width_)
    refuse("the line has " + std::to_string(fields_.size()) + " fields, the header " + std::to_string(width_));
  constexpr std::int64_t kLastStep = std::numeric_limits<std::int32_t>::max();
  const std::string_view id = fields_[*position_[kId]];
  if (id.empty()) refuse("column 'id' is empty");
  if (!ids_.insert(id).second) refuse("column 'id': " + quoted(id) + " comes twice");
  const std::int64_t lower = number(kLower, 0, kLastStep);
  const std::int64_t upper = position_[kUpper] ? number(kUpper, 0, kLastStep) : number(kEnd, 0, kLastStep - 1) + 1;
  const Bytes size{number(kSize, 0, kLimit - 1)};
  if (upper < lower)
    refuse("buffer " + quoted(id) + " ends at step " + std::to_string(upper) + " before it begins at step " +
           std::to_string(lower));
  if (size.value > kLimit - 1 - sum_)
    refuse("column 'size': " + quoted(fields_[*position_[kSize]]) + " brings the sum of sizes to 2^62 or more");
  sum_ += size.value;
  return {std::string(id), {Step{static_cast<std::int32_t>(lower)}, Step{static_cast<std::int32_t>(upper)}}, size};
}

ProblemFile Reader::read() {
  read_header();
  ProblemFile file;
  while (next_line()) {
    file.problem.buffers.push_back(read_buffer());
    if (position_[kOffset]) file.offsets.push_back(Offset{number(kOffset, 0, kLimit - 1)});
  }
  return file;
}

}  // namespace

ProblemFile read_problem_csv(std::string_view text, std::string_view name) { return Reader(text, name).read(); }

void write_problem_csv(std::ostream& out, const PlacementProblem& problem, const std::vector<Offset>& offsets) {
  if (!offsets.empty() && offsets.size() != problem.buffers.size())
    throw InvalidArgument("problem csv: there are " + std::to_string(offsets.size()) + " offsets for " +
                          std::to_string(problem.buffers.size()) + " buffers");
  for (const Buffer& b : problem.buffers)  // refused before the first byte is written
    if (b.name.empty() || b.name.find_first_of(",\r\n") != std::string::npos)
      throw InvalidArgument("problem csv: the name " + quoted(b.name) + " is empty or holds a comma or a line end");
  out << (offsets.empty() ? "id,lower,upper,size\n" : "id,lower,upper,size,offset\n");
  for (std::size_t i = 0; i < problem.buffers.size(); ++i) {
    const Buffer& b = problem.buffers[i];
    std::string line = b.name + ',' + std::to_string(index(b.lifetime.begin)) + ',' +
                       std::to_string(index(b.lifetime.end)) + ',' + std::to_string(b.size.value);
    if (!offsets.empty()) line += ',' + std::to_string(offsets[i].value);
    out << line << '\n';
  }
}

}  // namespace thimble
