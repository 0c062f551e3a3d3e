#include "thimble/byte_pair.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "thimble/error.h"
#include "thimble/text_lines.h"
#include "thimble/vocabulary.h"
#include "utf8.h"

namespace thimble {
namespace {

constexpr std::string_view kVersion = "#version: 0.2", kWordEnd = "</w>", kJoiner = "@@";
constexpr std::int32_t kMostMerges = 1 << 24, kNone = -1, kNever = std::numeric_limits<std::int32_t>::max();

struct Merge {
  std::int32_t rank = kNever;
  std::int32_t result = kNone;
};

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

struct BytePairMerges {
  std::unordered_map<std::string, std::int32_t, PieceHash, std::equal_to<>> symbols;  // whatever a merge takes or makes
  std::unordered_map<std::uint64_t, Merge> merges;

  std::int32_t intern(std::string_view symbol) {
    return symbols.emplace(symbol, static_cast<std::int32_t>(symbols.size())).first->second;
  }
  std::int32_t find(std::string_view symbol) const {
    const auto found = symbols.find(symbol);
    return found == symbols.end() ? kNone : found->second;
  }
  Merge find(std::int32_t left, std::int32_t right) const {
    if (left == kNone || right == kNone) return {};
    const auto found = merges.find(pair_key(left, right));
    return found == merges.end() ? Merge{} : found->second;
  }
  void add(std::string_view left, std::string_view right) {
    const std::uint64_t key = pair_key(intern(left), intern(right));
    const auto rank = static_cast<std::int32_t>(merges.size());
    if (!merges.contains(key)) merges.emplace(key, Merge{rank, intern(std::string(left).append(right))});
  }
};

namespace {

// Cuts one word after the other. Merges are done in rounds: all places of the pair with the lowest rank, from left to
// right; only then do the pairs that this made count. They can rank lower, so the order of a plain queue would differ.
class WordCutter {
 public:
  explicit WordCutter(const BytePairMerges& merges) : merges_(merges) {}

  void cut(std::string_view word, std::string& out) {
    split(word);
    while (!queue_.empty()) merge_round();
    for (std::size_t i = 0; i < links_.size(); i = links_[i].next) {
      if (i > 0) out.append(kJoiner) += ' ';
      out += word.substr(links_[i].begin, links_[i].end - links_[i].begin);
    }
  }

 private:
  struct Link {                  // of a list of symbols
    std::size_t begin, end;      // bytes of the word
    std::size_t previous, next;  // links_.size() behind the last one, kFirst before the first
    std::int32_t symbol;         // kNone where no merge knows it
    Merge merge;                 // with the next one
  };
  static constexpr std::size_t kFirst = std::numeric_limits<std::size_t>::max();

  // Into characters; the last one is a symbol together with the mark of a word's end.
  void split(std::string_view word) {
    links_.clear();
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t begin = at;
      next_character(word, at);
      std::string_view text = word.substr(begin, at - begin);
      if (at == word.size()) text = last_.assign(text).append(kWordEnd);
      const std::size_t i = links_.size();
      links_.push_back({begin, at, i == 0 ? kFirst : i - 1, i + 1, merges_.find(text), {}});
    }
    for (std::size_t i = 0; i < links_.size(); ++i) look_up(i);
  }

  void look_up(std::size_t i) {
    Link& link = links_[i];
    link.merge = link.next == links_.size() ? Merge{} : merges_.find(link.symbol, links_[link.next].symbol);
    if (link.merge.rank != kNever) queue_.emplace(link.merge.rank, i);
  }

  void merge_round() {
    const std::int32_t rank = queue_.top().first;
    round_.clear();
    for (; !queue_.empty() && queue_.top().first == rank; queue_.pop()) round_.push_back(queue_.top().second);
    for (std::size_t i : round_) {
      if (links_[i].merge.rank != rank) continue;  // one of the two has gone into another symbol since
      Link& link = links_[i];
      Link& taken = links_[link.next];
      link.end = taken.end;
      link.symbol = link.merge.result;
      link.next = taken.next;
      if (link.next != links_.size()) links_[link.next].previous = i;
      taken.merge = {};
      look_up(i);
      if (link.previous != kFirst) look_up(link.previous);
    }
  }

  const BytePairMerges& merges_;
  std::vector<Link> links_;
  std::vector<std::size_t> round_;
  using Entry = std::pair<std::int32_t, std::size_t>;  // rank, place
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
  std::string last_;
};

}  // namespace

BytePairCodes::BytePairCodes(std::unique_ptr<BytePairMerges> merges) : merges_(std::move(merges)) {}
BytePairCodes::BytePairCodes(BytePairCodes&&) noexcept = default;
BytePairCodes& BytePairCodes::operator=(BytePairCodes&&) noexcept = default;
BytePairCodes::~BytePairCodes() = default;

BytePairCodes BytePairCodes::read(const std::string& path) {
  std::ifstream in = open_text(path);
  return parse(in, path);
}

BytePairCodes BytePairCodes::parse(std::istream& in, const std::string& name) {
  auto merges = std::make_unique<BytePairMerges>();
  TextLines lines(in, name);
  const auto first = lines.next();
  if (first != kVersion)
    throw BadInput(name + ": line 1: is '" + std::string(first.value_or("").substr(0, 40)) + "', not '" +
                   std::string(kVersion) + "' as subword-nmt writes it");
  while (const auto line = lines.next()) {
    const std::size_t space = line->find(' ');
    const std::string_view left = line->substr(0, space);
    const std::string_view right = space == std::string_view::npos ? "" : line->substr(space + 1);
    if (left.empty() || right.empty() || right.find(' ') != std::string_view::npos)
      lines.refuse("'" + std::string(line->substr(0, 40)) + "' is no merge of two pieces");
    if (merges->merges.size() == kMostMerges) lines.refuse("more than " + std::to_string(kMostMerges) + " merges");
    merges->add(left, right);
  }
  return BytePairCodes(std::move(merges));
}

std::int64_t BytePairCodes::size() const { return static_cast<std::int64_t>(merges_->merges.size()); }

std::string BytePairCodes::apply(std::string_view line) const {
  if (const std::size_t bad = first_bad_utf8(line); bad != std::string_view::npos)
    throw InvalidArgument("byte pairs: byte " + std::to_string(bad + 1) + " of a line is not UTF-8");
  const std::size_t begin = line.find_first_not_of(' ');
  if (begin == std::string_view::npos) return std::string(line);
  const std::size_t end = line.find_last_not_of(' ') + 1;
  std::string out(line.substr(0, begin));
  WordCutter cutter(*merges_);
  for (std::size_t at = begin; at < end; at = line.find_first_not_of(' ', at)) {
    const std::size_t word_end = std::min(line.find(' ', at), end);
    if (at > begin) out += ' ';
    cutter.cut(line.substr(at, word_end - at), out);
    at = word_end;
  }
  return out.append(line.substr(end));
}

std::string join_byte_pairs(std::string_view line) {
  const std::string padded = std::string(line) + ' ';  // so that a mark at the end is one as well
  std::string joined;
  for (std::size_t at = 0; at < padded.size();) {
    const std::size_t mark = std::min(padded.find("@@ ", at), padded.size());
    joined.append(padded, at, mark - at);
    at = mark + 3;
  }
  joined.resize(joined.find_last_not_of(' ') + 1);
  return joined;
}

}  // namespace thimble
