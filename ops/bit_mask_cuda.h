// Masks of one bit per element on CUDA: a warp has a word, whose 32 elements its lanes visit side by side.
#pragma once

#include "bit_mask.h"
#include "cuda_ops.h"

namespace thimble {

/// The words of a batch's mask: they begin anew with every sample.
struct MaskWords {
  std::int64_t elements, words, all;  // of a sample, of a sample, of the batch

  static MaskWords of(std::int64_t elements, std::int64_t samples) {
    return {elements, mask_words(elements), mask_words(elements) * samples};
  }
};

constexpr int kWordsOfWarp = 4;  // at once, so that many loads are under way

inline unsigned blocks_for(const MaskWords& mask) {
  return blocks_for((mask.all + kWordsOfWarp - 1) / kWordsOfWarp * 32);
}

/// Calls visit(u, word, element), all lanes at once, for the words of the calling thread's warp; `element` is the
/// lane's, or -1 behind the end of its sample or of the batch.
template <class Visit>
__device__ inline void visit_mask_words(const MaskWords& mask, Visit visit) {
  const std::int64_t first = global_thread() / 32 * kWordsOfWarp, lane = threadIdx.x % 32;
  for (int u = 0; u < kWordsOfWarp; ++u) {
    const std::int64_t word = first + u, sample = word / mask.words;
    const std::int64_t of_sample = (word - sample * mask.words) * 32 + lane;
    visit(u, word, word < mask.all && of_sample < mask.elements ? sample * mask.elements + of_sample : -1);
  }
}

}  // namespace thimble
