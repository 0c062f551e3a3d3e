#include "thimble/vocabulary.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "pending_file.h"
#include "thimble/error.h"
#include "thimble/text_lines.h"
#include "utf8.h"

namespace thimble {
namespace {

constexpr std::array<std::string_view, Vocabulary::kSpecials> kSpecialNames{"<s>", "<pad>", "</s>", "<unk>"};

bool is_special(std::string_view piece) {
  return std::find(kSpecialNames.begin(), kSpecialNames.end(), piece) != kSpecialNames.end();
}

template <class Visit>
void for_each_piece(std::string_view line, Visit visit) {
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t begin = at;
    while (at < line.size() && !is_blank(line[at])) ++at;
    if (at > begin) visit(line.substr(begin, at - begin));
    ++at;
  }
}

// At most so much of a damaged line belongs in a message.
std::string quoted(std::string_view value) {
  return "'" + std::string(value.substr(0, 40)) + (value.size() > 40 ? "...'" : "'");
}

}  // namespace

void PieceCounts::add_checked_line(std::string_view line) {
  for_each_piece(line, [&](std::string_view piece) {
    if (is_special(piece)) return;
    auto found = counts_.find(piece);
    if (found == counts_.end()) found = counts_.emplace(piece, 0).first;
    ++found->second;
  });
}

void PieceCounts::add_line(std::string_view line) {
  const std::size_t bad = std::min(line.find('\0'), first_bad_utf8(line));
  if (bad != std::string_view::npos)
    throw InvalidArgument("vocabulary: byte " + std::to_string(bad + 1) + " of a line is NUL or not UTF-8");
  add_checked_line(line);
}

void PieceCounts::add_file(const std::string& path) {
  std::ifstream in = open_text(path);
  TextLines lines(in, path);
  while (const auto line = lines.next()) add_checked_line(*line);
}

Vocabulary::Vocabulary() {
  for (std::string_view name : kSpecialNames) {
    pieces_.emplace_back(name);
    counts_.push_back(0);
  }
}

Vocabulary::Vocabulary(const PieceCounts& counts, std::int64_t limit) : Vocabulary() {
  if (limit < kSpecials || limit > kMost)
    throw InvalidArgument("vocabulary: a limit of " + std::to_string(limit) + " is outside [" +
                          std::to_string(kSpecials) + ", " + std::to_string(kMost) + "]");
  using Counted = std::pair<std::string_view, std::int64_t>;
  std::vector<Counted> sorted(counts.counts().begin(), counts.counts().end());
  std::sort(sorted.begin(), sorted.end(), [](const Counted& a, const Counted& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  sorted.resize(std::min(sorted.size(), static_cast<std::size_t>(limit - kSpecials)));
  for (const auto& [piece, count] : sorted) append(piece, count);
}

bool Vocabulary::append(std::string_view piece, std::int64_t count) {
  if (!ids_.emplace(piece, size()).second) return false;
  pieces_.emplace_back(piece);
  counts_.push_back(count);
  return true;
}

Vocabulary Vocabulary::parse(std::istream& in, const std::string& name) {
  Vocabulary vocabulary;
  TextLines lines(in, name);
  while (const auto line = lines.next()) {
    const std::size_t space = line->find(' ');
    if (space == std::string_view::npos) lines.refuse(quoted(*line) + " has no count; lines are `piece count`");
    const std::string_view piece = line->substr(0, space), number = line->substr(space + 1);
    if (piece.empty()) lines.refuse(quoted(*line) + " has no piece; lines are `piece count`");
    if (std::any_of(piece.begin(), piece.end(), is_blank)) lines.refuse("the piece " + quoted(piece) + " has a blank");
    if (is_special(piece)) lines.refuse("the piece " + quoted(piece) + " is a special, which files leave out");
    std::int64_t count = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), count);
    if (error != std::errc() || end != number.data() + number.size() || count < 0)
      lines.refuse("the count " + quoted(number) + " of " + quoted(piece) + " is outside [0, 2^63)");
    if (vocabulary.size() == kMost) lines.refuse("more than " + std::to_string(kMost) + " pieces");
    if (!vocabulary.append(piece, count)) lines.refuse("the piece " + quoted(piece) + " comes twice");
  }
  return vocabulary;
}

Vocabulary Vocabulary::read(const std::string& path) {
  std::ifstream in = open_text(path);
  return parse(in, path);
}

void Vocabulary::write(const std::string& path) const {
  std::string text;
  for (std::size_t i = kSpecials; i < pieces_.size(); ++i) text += pieces_[i] + ' ' + std::to_string(counts_[i]) + '\n';
  PendingFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

std::int32_t Vocabulary::id(std::string_view piece) const {
  const auto found = ids_.find(piece);
  return found == ids_.end() ? kUnknown : found->second;
}

const std::string& Vocabulary::piece(std::int32_t id) const {
  if (id < 0 || id >= size())
    throw InvalidArgument("vocabulary: id " + std::to_string(id) + " is outside [0, " + std::to_string(size()) + ")");
  return pieces_[static_cast<std::size_t>(id)];
}

std::int64_t Vocabulary::count(std::int32_t id) const {
  piece(id);
  return counts_[static_cast<std::size_t>(id)];
}

std::int64_t Vocabulary::encode_to(std::vector<std::int32_t>& ids, std::string_view line) const {
  std::int64_t unknown = 0;
  for_each_piece(line, [&](std::string_view text) {
    ids.push_back(id(text));
    unknown += ids.back() == kUnknown;
  });
  ids.push_back(kEnd);
  return unknown;
}

EncodedLine Vocabulary::encode(std::string_view line) const {
  EncodedLine encoded;
  encoded.unknown = encode_to(encoded.ids, line);
  return encoded;
}

std::string Vocabulary::decode(std::span<const std::int32_t> ids) const {
  std::string line;
  for (std::int32_t id : ids) {
    const std::string& text = piece(id);
    if (id == kEnd) break;
    if (id == kPad || id == kBegin) continue;
    if (!line.empty()) line += ' ';
    line += text;
  }
  return line;
}

}  // namespace thimble
