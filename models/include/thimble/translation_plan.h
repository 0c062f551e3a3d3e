// From a translation model and the buckets of its text to the request that a plan is made from: for each bucket a
// program for the training step and one for evaluation, and one for saving a checkpoint, all in one arena.
//
//   TranslationChoices choices{.model = parse_dynamic_conv("dynamicconv-iwslt")};
//   choices.buckets = make_buckets(usual_rooms(), choices.max_tokens);
//   Plan plan = make_plan(request_translation(choices, registry), registry);
//   translation_choices_of(plan) == choices;
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thimble/buckets.h"
#include "thimble/dynamic_conv.h"
#include "thimble/op_registry.h"
#include "thimble/plan.h"

namespace thimble {

/// Adam with decoupled weight decay, as the recipe has it.
struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.98;
  double epsilon = 1e-8;
  double weight_decay = 1e-4;
  bool operator==(const AdamOptions&) const = default;
};

struct TranslationChoices {
  DynamicConv model;
  std::int64_t max_tokens = 4000;  ///< padded ids a side in a batch
  std::vector<Bucket> buckets{};   ///< one or more, rooms ascending
  /// Padded ids a side that every microbatch has at least: batches are cut into as many equal parts as that allows,
  /// give or take a sentence. 0: a batch in one piece.
  std::int64_t chunk = 0;
  AdamOptions adam{};
  bool barrier_before_update = false;
  DeviceDescription device{};
  std::uint64_t planner_seed = 0;
  bool operator==(const TranslationChoices&) const = default;
};

/// Programs are called `bucket_program("train", room)` and `bucket_program("evaluate", room)`. The bucket whose batch
/// has the most padded ids, then the most sentences, comes first. Throws InvalidArgument where there is no bucket or
/// the chunk is negative.
PlanRequest request_translation(const TranslationChoices& choices, const OpRegistry& registry);

/// What a planner may choose from: `choices` with a batch in one piece, then with chunks of a half, a quarter, ... of
/// `max_tokens`, down to at least `least_chunk`.
std::vector<PlanRequest> translation_variants(const TranslationChoices& choices, const OpRegistry& registry,
                                              std::int64_t least_chunk);

/// Whether the plan is of a translation model, so that translation_choices_of can read it.
bool is_translation(const Plan& plan);

/// Reads back what request_translation wrote into the plan. Throws BadInput where the plan is of no such run.
TranslationChoices translation_choices_of(const Plan& plan);

}  // namespace thimble
