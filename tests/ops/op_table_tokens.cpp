#include <cmath>

#include "op_table_rows.h"

namespace thimble::testing {
namespace {

// Layers on sentences; what no sentence has is NaN where nothing may read it.
void add_linear_on_tokens(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, Shape w, bool bias) {
    std::vector<RowInput> inputs{samples(x), weights(w)};
    if (bias) inputs.push_back(weights({w[0]}));
    rows.push_back({name, "linear", inputs, {}, 3e-6, kSums, rows.size()});
    Shape dy = x;
    dy.back() = w[0];
    for (const char* sums : {kAccumulates, kAddsToLast}) {
      const Attributes attributes{{sums, std::int64_t{1}}};
      const bool adds = sums == std::string(kAddsToLast);
      std::vector<RowInput> of_weights{samples(x), samples(dy)}, of_bias{samples(dy)};
      if (adds) of_weights.push_back(weights(w)), of_bias.push_back(weights({w[0]}));
      const std::string suffix = adds ? "_add" : "_sum_next";
      rows.push_back({name + "_weights" + suffix, "linear_backward_weights", of_weights, attributes, 5e-6, kSums,
                      rows.size(), false, 0, adds});
      rows.push_back({name + "_bias" + suffix, "linear_backward_bias", of_bias, attributes, 5e-6, kSums, rows.size(),
                      false, 0, adds});
    }
  };
  row("linear_tokens", {5, 7, 24}, {40, 24}, true);
  row("linear_tokens_no_bias", {3, 50, 96}, {12, 96}, false);
  row("linear_tokens_many_tiles", {2, 40, 600}, {270, 600}, true);
  row("linear_tokens_many_rows", {3, 200, 21}, {13, 21}, true);
  row("linear_tokens_deep", {2, 5, 1100}, {35, 1100}, true);
}

void add_embeddings(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, std::int64_t sentences, std::int64_t room, std::int64_t vocabulary,
                       std::int64_t channels) {
    const Attributes attributes{{"scale", std::sqrt(static_cast<double>(channels))},
                                {"first_position", std::int64_t{2}}};
    rows.push_back({name,
                    "embedding",
                    {ids({sentences, room}, vocabulary, 1), lengths(sentences, room), weights({vocabulary, channels})},
                    attributes,
                    1e-6,
                    kFewRoundings,
                    rows.size(),
                    false,
                    0,
                    true,
                    1});
    Attributes back = attributes;
    back["vocabulary"] = vocabulary;
    std::vector<RowInput> inputs{ids({sentences, room}, vocabulary, 1), lengths(sentences, room),
                                 tokens({sentences, room, channels}, 1)};
    Attributes sums = back, adds = back;
    sums[kAccumulates] = std::int64_t{1};
    adds[kAddsToLast] = std::int64_t{1};
    rows.push_back({name + "_sum_next", "embedding_backward", inputs, sums, 2e-6, kSums, rows.size(), false, 0, false});
    inputs.push_back(weights({vocabulary, channels}));
    rows.push_back({name + "_add", "embedding_backward", inputs, adds, 2e-6, kSums, rows.size()});
  };
  row("embedding", 4, 9, 11, 16);
  row("embedding_one_token", 1, 1, 1, 4);
  row("embedding_wide", 7, 33, 200, 72);
  row("embedding_narrow", 3, 5, 9, 6);
  row("embedding_frequent_ids", 12, 250, 2, 4);
  row("embedding_large_table", 3, 4, 1100, 516);
}

void add_layer_norms(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, double offset) {
    const Shape c{x.back()};
    rows.push_back({name,
                    "layer_norm",
                    {samples(std::move(x)), weights(c), weights(c)},
                    {{"epsilon", 1e-5}},
                    offset != 0 ? 3e-5 : 5e-6,
                    offset != 0 ? kLargeMean : kSums,
                    rows.size(),
                    false,
                    offset});
  };
  row("layer_norm", {5, 7, 64}, 0);
  row("layer_norm_odd", {3, 21}, 0);
  row("layer_norm_many_rows", {9, 33, 40}, 0);
  row("layer_norm_odd_rows_of_many_vectors", {3, 3, 701}, 0);
  row("layer_norm_500", {3, 4, 500}, 0);
  row("layer_norm_1024", {3, 4, 1024}, 0);
  row("layer_norm_1031", {3, 9, 1031}, 0);
  row("layer_norm_mean_of_100_deviations", {4, 6, 48}, 100);
}

void add_tap_convolutions(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, const Shape& x, std::int64_t heads, std::int64_t kernel,
                       std::int64_t causal, double rate) {
    const Attributes attributes{
        {"heads", heads}, {"kernel", kernel}, {"causal", causal}, {"rate", rate}, {"stream", std::int64_t{7}}};
    rows.push_back({"dynamic_" + name,
                    "dynamic_conv",
                    {tokens(x, 2), tokens({x[0], x[1], heads * kernel}, 2), lengths(x[0], x[1])},
                    attributes,
                    5e-6,
                    kSums,
                    rows.size(),
                    false,
                    0,
                    true,
                    2});
    rows.push_back({"light_" + name,
                    "light_conv",
                    {tokens(x, 2), weights({heads, kernel}), lengths(x[0], x[1])},
                    attributes,
                    5e-6,
                    kSums,
                    rows.size(),
                    false,
                    0,
                    true,
                    2});
  };
  row("conv_3", {4, 9, 32}, 4, 3, 0, 0);
  row("conv_7_causal", {3, 12, 24}, 2, 7, 1, 0);
  row("conv_31_longer_than_sentences", {3, 11, 72}, 2, 31, 0, 0.1);
  row("conv_31_causal_dropped", {10, 40, 36}, 4, 31, 1, 0.3);
  row("conv_even_kernel", {2, 8, 5}, 1, 4, 0, 0.5);
  row("conv_one_tap", {1, 1, 1}, 1, 1, 1, 0);
  row("conv_most_taps", {2, 70, 40}, 2, 64, 0, 0.2);
  // Heads that a warp needs two rounds for, of four, two and one channels a lane.
  row("conv_head_of_140", {3, 35, 280}, 2, 5, 0, 0.1);
  row("conv_head_of_66_causal", {2, 6, 66}, 1, 3, 1, 0);
  row("conv_head_of_35", {2, 5, 35}, 1, 2, 0, 0.1);
  // A whole sentence in a block, of which a lane has four channels: once, twice.
  row("conv_head_of_128", {3, 30, 256}, 2, 3, 0, 0.1);
  row("conv_tile_of_140", {2, 25, 140}, 1, 31, 0, 0.2);
  row("conv_of_many_sentences", {1031, 5, 4}, 1, 3, 1, 0.1);
}

void add_attentions(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, std::int64_t sentences, std::int64_t queries, std::int64_t keys,
                       std::int64_t channels, std::int64_t heads, double rate) {
    rows.push_back({name,
                    "attention",
                    {tokens({sentences, queries, channels}, 3), tokens({sentences, keys, channels}, 4),
                     tokens({sentences, keys, channels}, 4), lengths(sentences, queries), lengths(sentences, keys)},
                    {{"heads", heads}, {"rate", rate}, {"stream", std::int64_t{9}}},
                    5e-6,
                    kSums,
                    rows.size(),
                    false,
                    0,
                    true,
                    3});
  };
  row("attention", 4, 6, 9, 32, 4, 0);
  row("attention_dropped", 5, 7, 70, 24, 2, 0.3);
  row("attention_one_key", 3, 5, 1, 8, 1, 0);
  row("attention_one_query", 2, 1, 13, 6, 3, 0.1);
  row("attention_many_tiles", 2, 90, 300, 48, 2, 0.1);
  row("attention_wide_heads", 2, 33, 20, 150, 2, 0.1);
  row("attention_long", 2, 130, 140, 15, 3, 0.2);
  rows.back().attributes["heads_at_once"] = std::int64_t{2};  // on CUDA
}

void add_vocabulary_losses(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, const Shape& x, std::int64_t vocabulary, double smoothing,
                       std::int64_t slice) {
    const std::vector<RowInput> inputs{tokens(x, 3), weights({vocabulary, x[2]}), ids({x[0], x[1]}, vocabulary, 3),
                                       lengths(x[0], x[1])};
    Attributes attributes{{"smoothing", smoothing}, {"slice", slice}};
    rows.push_back({name, "vocabulary_loss", inputs, attributes, 5e-6, kSums, rows.size()});
    attributes["gradients"] = std::int64_t{1};
    rows.push_back({name + "_gradients", "vocabulary_loss", inputs, attributes, 5e-6, kSums, rows.size()});
    Attributes sums = attributes, adds = attributes;
    sums[kAccumulates] = adds[kAddsToLast] = std::int64_t{1};
    rows.push_back({name + "_sum_next", "vocabulary_loss", inputs, sums, 5e-6, kSums, rows.size(), false, 0, false});
    std::vector<RowInput> with_sum = inputs;
    with_sum.push_back(inputs[1]);
    rows.push_back({name + "_add", "vocabulary_loss", with_sum, adds, 5e-6, kSums, rows.size()});
  };
  row("vocabulary_loss", {4, 6, 16}, 29, 0.1, 5);
  row("vocabulary_loss_plain", {3, 5, 8}, 17, 0, 1000);
  row("vocabulary_loss_one_token_slices", {3, 4, 12}, 40, 0.1, 1);
  row("vocabulary_loss_many_tiles", {5, 40, 20}, 300, 0.2, 96);
  row("vocabulary_loss_odd", {3, 5, 7}, 1101, 0.1, 4);
  // A microbatch of empty places alone.
  std::vector<RowInput> empty{tokens({3, 5, 8}, 3), weights({17, 8}), ids({3, 5}, 17, 3), lengths(3, 5)};
  empty.back().fill = Fill::constant;
  empty.back().limit = 0;
  rows.push_back({"vocabulary_loss_no_token",
                  "vocabulary_loss",
                  empty,
                  {{"smoothing", 0.1}, {"slice", std::int64_t{4}}, {"gradients", std::int64_t{1}}},
                  5e-6,
                  kSums,
                  rows.size()});
}

void add_adam(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, const Shape& weight) {
    std::vector<RowInput> inputs(4, weights(weight));
    inputs[3] = positive(weight);
    rows.push_back({name,
                    "adam_update",
                    inputs,
                    {{"beta1", 0.9}, {"beta2", 0.98}, {"epsilon", 1e-8}, {"weight_decay", 1e-4}},
                    1e-6,
                    kFewRoundings,
                    rows.size()});
  };
  row("adam", {5, 7, 3});
  row("adam_many_values", {300, 11});
}

}  // namespace

void add_token_rows(std::vector<Row>& rows) {
  add_linear_on_tokens(rows);
  add_embeddings(rows);
  add_layer_norms(rows);
  add_tap_convolutions(rows);
  add_attentions(rows);
  add_vocabulary_losses(rows);
  add_adam(rows);
}

}  // namespace thimble::testing
