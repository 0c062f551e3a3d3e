// From a trained translation model to the request of a plan that searches translations: for each bucket of source
// sentences a program that encodes a batch of them, and one that takes every hypothesis one position further, all in
// one arena with the weights. Programs hand on what they know in persistent tensors (Role::state): each decoder layer's
// keys and values of the encoder's output, and the last positions that its convolution sees.
//
//   SearchChoices choices{.model = translation_choices_of(trained).model, .buckets = search_buckets(32)};
//   Plan plan = make_plan(request_search(choices, registry), registry);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thimble/buckets.h"
#include "thimble/dynamic_conv.h"
#include "thimble/op_registry.h"
#include "thimble/plan.h"

namespace thimble {

struct SearchChoices {
  DynamicConv model;
  std::vector<Bucket> buckets{};  ///< of source sentences, rooms ascending
  std::int64_t beam = 4;          ///< hypotheses of a sentence
  DeviceDescription device{};
};

/// Rooms up to kLongestSentence, for at most `sentences` at a time and, where there is more than one, 2,048 padded ids.
std::vector<Bucket> search_buckets(std::int64_t sentences);

/// Programs are called `bucket_program("encode", room)` and `bucket_program("advance", room)`. Inputs of an encode
/// program: `source` {N, room}, `source_lengths` {N}. Of an advance program: `ids` {N, beam}, the
/// hypotheses' last pieces; `hypotheses` {N}, how many of a sentence there are; `source_lengths` {N}; `position` {1};
/// `ancestors` {N, beam, search_history(model)}: which hypothesis of the sentence it was 1, 2, ... positions ago.
/// Outputs of an advance program: `scores` and `candidates` {N, beam, search_width}: logarithms of the best next
/// pieces' probabilities, descending, and their ids. Throws InvalidArgument where there is no bucket or the beam is not
/// from 1 to 64.
PlanRequest request_search(const SearchChoices& choices, const OpRegistry& registry);

/// Positions that a decoder's convolutions look back, at least 1.
std::int64_t search_history(const DynamicConv& model);
/// Candidates of each hypothesis: twice the beam, so that a beam is left when some of them end.
std::int64_t search_width(const DynamicConv& model, std::int64_t beam);

}  // namespace thimble
