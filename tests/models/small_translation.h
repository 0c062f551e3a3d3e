// A translation model and a batch of sentence pairs small enough for every test: lengths differ, and what lies beyond
// them is no id of any vocabulary.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "all_ops.h"
#include "thimble/differentiate.h"
#include "thimble/dynamic_conv.h"
#include "thimble/initialize.h"
#include "thimble/plan.h"
#include "thimble/runtime.h"

namespace thimble {

inline DynamicConv small_translation_model(bool dynamic = true) {
  return {.source_vocabulary = 37,
          .target_vocabulary = 29,
          .channels = 32,
          .hidden = 48,
          .heads = 4,
          .encoder_kernels = {3, 7},
          .decoder_kernels = {3, 5},
          .dynamic = dynamic,
          .dropout = 0,
          .attention_dropout = 0,
          .tap_dropout = 0};
}

inline const Optimizer kSmallAdam{
    .kind = "adam_update",
    .state = {"exp_avg", "exp_avg_sq"},
    .attributes = {{"beta1", 0.9}, {"beta2", 0.98}, {"epsilon", 1e-8}, {"weight_decay", 1e-4}}};

/// Random sentences of up to the room there is; the first pair fills it, the second has one word a side.
struct SmallBatch {
  SentenceShape shape;
  std::vector<std::int32_t> source, source_lengths, target_input, target_output, target_lengths;
  std::int64_t target_tokens = 0;

  SmallBatch(const DynamicConv& model, const SentenceShape& sizes, std::uint32_t seed) : shape(sizes) {
    std::mt19937 random(seed);
    const auto draw = [&](std::int64_t below) {
      return static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(below));
    };
    const auto fill = [&](std::vector<std::int32_t>& ids, std::int64_t room, std::int32_t length,
                          std::int64_t vocabulary) {
      for (std::int64_t t = 0; t < room; ++t) ids.push_back(t < length ? 2 + draw(vocabulary - 2) : -1);
    };
    for (std::int64_t b = 0; b < shape.sentences; ++b) {
      const auto length = [&](std::int64_t room) {
        return b == 0 ? static_cast<std::int32_t>(room) : b == 1 ? 1 : 1 + draw(room);
      };
      source_lengths.push_back(length(shape.source));
      target_lengths.push_back(length(shape.target));
      target_tokens += target_lengths.back();
      fill(source, shape.source, source_lengths.back(), model.source_vocabulary);
      fill(target_input, shape.target, target_lengths.back(), model.target_vocabulary);
      fill(target_output, shape.target, target_lengths.back(), model.target_vocabulary);
    }
  }

  /// The samples at hand, where the steps at hand read them.
  void write(ProgramView& view) const {
    const auto copy = [&](const char* name, const std::vector<std::int32_t>& all, std::int64_t room) {
      const auto out = view.as<std::int32_t>(name);
      const auto begin = all.begin() + view.samples().begin * room;
      std::copy_n(begin, out.size(), out.begin());
    };
    copy("source", source, shape.source);
    copy("source_lengths", source_lengths, 1);
    copy("target_input", target_input, shape.target);
    copy("target_output", target_output, shape.target);
    copy("target_lengths", target_lengths, 1);
  }
};

/// Fresh weights; biases and scales are drawn too, so that no gradient is zero for their sake.
inline void draw_small_weights(Runtime& runtime, std::uint32_t seed) {
  std::mt19937 random(seed);
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    const std::span values{reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
    initialize_parameter(values, tensor.name, tensor.type, seed);
    if (tensor.role != Role::weight || tensor.type.shape.size() != 1) continue;
    for (float& value : values) value += 0.2f * (static_cast<float>(random() >> 8) / 16777216.0f - 0.5f);
  }
}

}  // namespace thimble
