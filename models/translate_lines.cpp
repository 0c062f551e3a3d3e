#include "thimble/translate_lines.h"

namespace thimble {
namespace {

constexpr auto kMostPieces = static_cast<std::size_t>(kLongestSentence - 1);

// Ids that only the model has, as its vocabulary may be larger than the dictionary, are no piece.
std::string text_of(const Translation& translation, const TextFolder& text) {
  std::vector<std::int32_t> ids = translation.ids;
  for (std::int32_t& id : ids)
    if (id >= text.target().size()) id = Vocabulary::kUnknown;
  return text.pieces().join(text.target().decode(ids));
}

}  // namespace

TranslatedLines translate_lines(Translator& translator, const TextFolder& text, std::span<const std::string> lines) {
  TranslatedLines result;
  SentenceIds sources;
  for (const std::string& line : lines) {
    const auto begin = sources.ids.size();
    result.unknown += text.source().encode_to(sources.ids, text.pieces().apply(line));
    if (sources.ids.size() - begin > kMostPieces + 1) {
      sources.ids.resize(begin + kMostPieces);
      sources.ids.push_back(Vocabulary::kEnd);
      ++result.cut;
    }
    sources.begins.push_back(static_cast<std::int64_t>(sources.ids.size()));
  }
  for (const Translation& translation : translator.translate(sources))
    result.lines.push_back(text_of(translation, text));
  return result;
}

}  // namespace thimble
