#include "thimble/parallel_text.h"

#include "thimble/error.h"
#include "thimble/text_lines.h"

namespace thimble {
namespace {

class Side {
 public:
  Side(const std::string& file, const Vocabulary& vocabulary)
      : in_(open_text(file)), lines_(in_, file), vocabulary_(vocabulary) {}

  TextLines& lines() { return lines_; }
  // Behind the last sentence, where keep() leaves it and drop() takes it away again.
  void append(std::string_view line) { pending_unknown_ = vocabulary_.encode_to(sentences_.ids, line); }
  std::int64_t pending() const { return static_cast<std::int64_t>(sentences_.ids.size()) - sentences_.begins.back(); }
  void keep() {
    sentences_.begins.push_back(static_cast<std::int64_t>(sentences_.ids.size()));
    unknown_ += pending_unknown_;
  }
  void drop() { sentences_.ids.resize(static_cast<std::size_t>(sentences_.begins.back())); }

  std::int64_t unknown() const { return unknown_; }
  SentenceIds take() {
    sentences_.ids.shrink_to_fit();
    sentences_.begins.shrink_to_fit();
    return std::move(sentences_);
  }

 private:
  std::ifstream in_;
  TextLines lines_;
  const Vocabulary& vocabulary_;
  SentenceIds sentences_;
  std::int64_t pending_unknown_ = 0, unknown_ = 0;
};

[[noreturn]] void refuse_counts(Side& source, Side& target) {
  const std::int64_t sources = source.lines().count_rest(), targets = target.lines().count_rest();
  throw BadInput(source.lines().name() + " has " + std::to_string(sources) + " lines, " + target.lines().name() +
                 " has " + std::to_string(targets) + "; the same line of both is a pair");
}

}  // namespace

LoadedPairs read_parallel_text(const std::string& source_file, const std::string& target_file,
                               const Vocabulary& source_vocabulary, const Vocabulary& target_vocabulary,
                               std::int64_t longest, const LineToPieces& to_pieces) {
  if (longest < 2)
    throw InvalidArgument("parallel text: a longest sentence of " + std::to_string(longest) +
                          " ids leaves nothing; a piece and </s> are 2");
  Side source(source_file, source_vocabulary), target(target_file, target_vocabulary);
  ParallelReport report;
  while (true) {
    const auto source_line = source.lines().next(), target_line = target.lines().next();
    if (source_line.has_value() != target_line.has_value()) refuse_counts(source, target);
    if (!source_line) break;
    ++report.lines;
    source.append(to_pieces ? to_pieces(*source_line) : *source_line);
    target.append(to_pieces ? to_pieces(*target_line) : *target_line);
    const bool is_empty = source.pending() == 1 || target.pending() == 1;
    const bool is_too_long = source.pending() > longest || target.pending() > longest;
    report.empty += is_empty;
    report.too_long += !is_empty && is_too_long;
    if (is_empty || is_too_long) {
      source.drop();
      target.drop();
    } else {
      ++report.kept;
      source.keep();
      target.keep();
    }
  }
  report.unknown_sources = source.unknown();
  report.unknown_targets = target.unknown();
  return {{source.take(), target.take()}, report};
}

}  // namespace thimble
