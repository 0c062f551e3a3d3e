#include "thimble/sentence_pieces.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <unordered_map>

#include "pending_file.h"
#include "thimble/error.h"
#include "thimble/text_lines.h"
#include "utf8.h"

namespace thimble {

struct SentencePieces::Model {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

constexpr std::size_t kLargestModel = 64 << 20;
constexpr std::int64_t kLargestVocabulary = 1'000'000;
constexpr std::size_t kLongestLearned = 4192;  // bytes; the library's own limit, the time grows with the square

// Characters that normalisation may leave nothing of, and some more. The library ends the process where that is so of
// every line.
bool may_vanish(char32_t c) {
  return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || c == 0x1680 || c == 0x180e ||
         (c >= 0x2000 && c <= 0x206f) || c == 0x2581 || c == 0x3000 || c == 0xfeff || (c >= 0xfff0 && c <= 0xffff);
}

bool can_be_learned_from(std::string_view line) {
  if (line.size() > kLongestLearned) return false;
  for (std::size_t at = 0; at < line.size();)
    if (!may_vanish(next_character(line, at))) return true;
  return false;
}

// Lines of one file after the other. The library is told no file names: it would split them at commas.
class FilesIterator : public sentencepiece::SentenceIterator {
 public:
  explicit FilesIterator(const std::vector<std::string>& files) : files_(files) { advance(); }

  bool done() const override { return done_; }
  void Next() override { advance(); }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  // No exception crosses the library: it waits for rethrow().
  void advance() {
    try {
      done_ = !read_line();
    } catch (...) {
      failure_ = std::current_exception();
      done_ = true;
    }
  }

  bool read_line() {
    while (true) {
      const auto line = lines_ ? lines_->next() : std::nullopt;
      if (line && can_be_learned_from(*line)) {
        line_ = *line;
        return true;
      }
      if (line) continue;
      if (file_ == files_.size()) return false;
      lines_.reset();
      in_ = open_text(files_[file_]);
      lines_.emplace(in_, files_[file_++]);
    }
  }

  const std::vector<std::string>& files_;
  std::size_t file_ = 0;
  std::ifstream in_;
  std::optional<TextLines> lines_;
  std::string line_;
  std::exception_ptr failure_;
  bool done_ = false;
};

void check(const SentencePieceTraining& options) {
  if (options.vocabulary_size < 4 || options.vocabulary_size > kLargestVocabulary)
    throw InvalidArgument("sentence pieces: a vocabulary of " + std::to_string(options.vocabulary_size) +
                          " is outside [4, " + std::to_string(kLargestVocabulary) + "]");
  if (!(options.character_coverage > 0 && options.character_coverage <= 1))
    throw InvalidArgument("sentence pieces: a character coverage of " + std::to_string(options.character_coverage) +
                          " is outside (0, 1]");
}

}  // namespace

SentencePieces::SentencePieces(std::string_view model, const std::string& name) : model_(std::make_unique<Model>()) {
  const auto status = model_->processor.LoadFromSerializedProto(model);
  if (!status.ok()) throw BadInput(name + ": is no SentencePiece model: " + status.error_message());
  if (model_->processor.GetPieceSize() == 0) throw BadInput(name + ": is a SentencePiece model without pieces");
}

SentencePieces::SentencePieces(SentencePieces&&) noexcept = default;
SentencePieces& SentencePieces::operator=(SentencePieces&&) noexcept = default;
SentencePieces::~SentencePieces() = default;

SentencePieces SentencePieces::read(const std::string& path) {
  std::ifstream in = open_text(path);
  std::string model(kLargestModel + 1, '\0');
  in.read(model.data(), static_cast<std::streamsize>(model.size()));
  if (in.bad()) throw EnvironmentError("cannot read '" + path + "'");
  model.resize(static_cast<std::size_t>(in.gcount()));
  if (model.size() > kLargestModel)
    throw BadInput(path + ": has more than " + std::to_string(kLargestModel) + " bytes, no SentencePiece model does");
  return SentencePieces(model, path);
}

void SentencePieces::write(const std::string& path) const {
  const std::string model = model_->processor.serialized_model_proto();
  PendingFile file(path);
  file.write(model.data(), model.size());
  file.commit();
}

std::int64_t SentencePieces::size() const { return model_->processor.GetPieceSize(); }

std::string SentencePieces::piece(std::int64_t i) const {
  if (i < 0 || i >= size())
    throw InvalidArgument("sentence pieces: piece " + std::to_string(i) + " of " + std::to_string(size()));
  return model_->processor.IdToPiece(static_cast<int>(i));
}

std::string SentencePieces::apply(std::string_view line) const {
  const std::size_t bad = std::min(line.find('\0'), first_bad_utf8(line));
  if (bad != std::string_view::npos)
    throw InvalidArgument("sentence pieces: byte " + std::to_string(bad + 1) + " of a line is NUL or not UTF-8");
  std::vector<std::string> pieces;
  const auto status = model_->processor.Encode(line, &pieces);
  if (!status.ok()) throw InvalidArgument(std::string("sentence pieces: ") + status.error_message());
  std::string joined;
  for (const std::string& piece : pieces) {
    if (!joined.empty()) joined += ' ';
    joined += piece;
  }
  return joined;
}

std::string SentencePieces::join(std::string_view pieces) const {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at < pieces.size();) {
    const std::size_t end = std::min(pieces.find(' ', at), pieces.size());
    if (end > at) parts.push_back(pieces.substr(at, end - at));
    at = end + 1;
  }
  std::string text;
  const auto status = model_->processor.Decode(parts, &text);
  if (!status.ok()) throw InvalidArgument(std::string("sentence pieces: ") + status.error_message());
  return text;
}

SentencePieces train_sentence_pieces(const std::vector<std::string>& files, const SentencePieceTraining& options) {
  check(options);
  const std::unordered_map<std::string, std::string> arguments{
      {"vocab_size", std::to_string(options.vocabulary_size)},
      {"model_type", options.kind == SentencePieceKind::unigram ? "unigram" : "bpe"},
      {"character_coverage", std::to_string(options.character_coverage)},
      {"num_threads", "1"},
      {"max_sentence_length", std::to_string(kLongestLearned)},
      {"minloglevel", "3"}};  // errors come back as a status
  FilesIterator lines(files);
  lines.rethrow();
  if (lines.done()) throw InvalidArgument("sentence pieces: no line to learn from");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &lines, &model);
  lines.rethrow();
  if (!status.ok()) throw InvalidArgument(std::string("sentence pieces: ") + status.error_message());
  return SentencePieces(model, "a model just trained");
}

}  // namespace thimble
