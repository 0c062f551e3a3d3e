// The translation model of Wu et al. 2019 as fairseq's `lightconv_iwslt_de_en` has it, without gated units: an encoder
// and a decoder of dynamic (or lightweight) convolutions, attention from each decoder layer to the encoder's output,
// layer norm behind each residual sum, nothing shared.
//
//   Graph g = build_dynamic_conv({}, registry, {.sentences = 100, .source = 40, .target = 40}, Mode::train);
//   parameter_count(g) == 38685184;
//
// Inputs, all batched i32: `source` {B, S} ids and `source_lengths` {B}; `target_input` {B, T}, which begins with the
// end of a sentence, `target_output` {B, T}, which ends with it, and `target_lengths` {B}. What lies beyond a length is
// never read. Outputs: `loss` and `nll`, means over StepScalars::loss_terms target tokens.
// Parameters: encoder.embedding.weight, encoder.layer0.conv.in.weight .bias, .conv.taps.weight, .conv.out.weight .bias,
// .conv.norm.weight .bias, .feed_forward.in.weight ..., decoder.layer0.attention.query.weight ...,
// decoder.output.weight.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "thimble/model_graph.h"

namespace thimble {

struct DynamicConv {
  std::int64_t source_vocabulary = 8848;
  std::int64_t target_vocabulary = 6632;
  std::int64_t channels = 512;  ///< of embeddings and convolutions; even
  std::int64_t hidden = 1024;   ///< of the feed-forward part
  std::int64_t heads = 4;       ///< of convolutions and attention; divides the channels
  std::vector<std::int64_t> encoder_kernels{3, 7, 15, 31, 31, 31, 31};  ///< one layer each
  std::vector<std::int64_t> decoder_kernels{3, 7, 15, 31, 31, 31};
  bool dynamic = true;             ///< every position predicts its taps; else lightweight: one set for all
  double dropout = 0.3;            ///< of what is added to the residual, and of embeddings
  double attention_dropout = 0.1;  ///< of attention's probabilities
  double tap_dropout = 0.1;        ///< DropConnect
  double smoothing = 0.1;          ///< of labels
  bool operator==(const DynamicConv&) const = default;
};

/// `dynamicconv-iwslt`, `lightconv-iwslt`, and `dynamicconv`, `lightconv` for those who change them: the recipe's
/// sizes. Throws InvalidArgument for anything else.
DynamicConv parse_dynamic_conv(std::string_view name);

/// A batch of sentence pairs, and the longest of each side there is room for.
struct SentenceShape {
  std::int64_t sentences = 0, source = 0, target = 0;
  bool operator==(const SentenceShape&) const = default;
};

/// In `evaluate` nothing is dropped and the loss is plain cross-entropy. Throws InvalidArgument where a size of the
/// model or of the batch is out of range.
Graph build_dynamic_conv(const DynamicConv& model, const OpRegistry& registry, const SentenceShape& shape, Mode mode);

}  // namespace thimble
