#include "thimble/text_pieces.h"

#include <filesystem>

#include "thimble/error.h"
#include "utf8.h"

namespace thimble {

TextPieces TextPieces::of_folder(const std::string& folder) {
  const std::string model = folder + "/" + kModelFile, codes = folder + "/" + kCodesFile;
  const bool has_model = std::filesystem::exists(model), has_codes = std::filesystem::exists(codes);
  if (has_model && has_codes)
    throw BadInput(folder + ": has " + kModelFile + " and " + kCodesFile + "; text is cut into pieces by one of them");
  if (has_model) return TextPieces(SentencePieces::read(model));
  if (has_codes) return TextPieces(BytePairCodes::read(codes));
  return {};
}

std::string TextPieces::apply(std::string_view line) const {
  if (const auto* codes = std::get_if<BytePairCodes>(&how_)) return codes->apply(line);
  if (const auto* model = std::get_if<SentencePieces>(&how_)) return model->apply(line);
  if (const std::size_t bad = first_bad_utf8(line); bad != std::string_view::npos)
    throw InvalidArgument("pieces: byte " + std::to_string(bad + 1) + " of a line is not UTF-8");
  return std::string(line);
}

std::string TextPieces::join(std::string_view pieces) const {
  if (const auto* model = std::get_if<SentencePieces>(&how_)) return model->join(pieces);
  return join_byte_pairs(pieces);
}

}  // namespace thimble
