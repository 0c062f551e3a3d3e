// libFuzzer entry: whatever the bytes are, a vocabulary and a list of merges are refused with an Error or can be used,
// and BLEU finds any text equal to itself.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

#include "thimble/bleu.h"
#include "thimble/byte_pair.h"
#include "thimble/error.h"
#include "thimble/vocabulary.h"

namespace {

template <class Use>
void unless_refused(Use use) {
  try {
    use();
  } catch (const thimble::Error&) {
  }
}

void expect(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  unless_refused([&] {
    std::istringstream in(text);
    const thimble::Vocabulary vocabulary = thimble::Vocabulary::parse(in, "fuzz.txt");
    for (std::int32_t id = thimble::Vocabulary::kSpecials; id < vocabulary.size(); ++id)
      expect(vocabulary.encode(vocabulary.piece(id)).ids.front() == id);
  });
  unless_refused([&] {
    std::istringstream in("#version: 0.2\n" + text);
    const thimble::BytePairCodes codes = thimble::BytePairCodes::parse(in, "fuzz.codes");
    const std::string cut = codes.apply(text);
    if (text.find('@') == std::string::npos) expect(thimble::join_byte_pairs(cut).size() <= text.size());
  });
  unless_refused([&] {
    const std::string hypotheses[] = {text, "four words at least"};
    const thimble::Bleu result = thimble::bleu(hypotheses, hypotheses, {.lower_case = size % 2 == 1});
    expect(std::abs(result.score - 100) < 1e-9 && result.matches == result.totals);
  });
  return 0;
}
