#include "op_table_rows.h"

namespace thimble::testing {
namespace {

// Rows of a pool: the table's samples begin at the fifth of their step, and some rows are left over.
std::int64_t pool_rows(std::int64_t sentences, std::int64_t room) { return (5 + sentences) * room + 3; }

void add_embeddings_at(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape beams, std::int64_t vocabulary, std::int64_t channels,
                       std::int64_t at) {
    const std::vector<RowInput> inputs{ids(beams, vocabulary, 1), lengths(beams[0], beams[1]),
                                       weights({vocabulary, channels}), position(at)};
    rows.push_back({name,
                    "embedding_at",
                    inputs,
                    {{"scale", 2.5}, {"first_position", std::int64_t{2}}},
                    1e-6,
                    kFewRoundings,
                    rows.size()});
  };
  row("embedding_at_0", {4, 4}, 11, 16, 0);
  row("embedding_at_17_beam_1", {5, 1}, 200, 72, 17);
  row("embedding_at_last_position", {1, 3}, 7, 4, 1023);
  row("embedding_at_3_many_sentences", {20, 2}, 30, 10, 3);
}

void add_pools(std::vector<Row>& rows) {
  const auto keep = [&](const std::string& name, Shape x) {
    const std::int64_t held = pool_rows(x[0], x[1]), channels = x[2];
    rows.push_back({name, "keep_rows", {samples(x), weights({held, channels})}, {}, 0, kExact, rows.size()});
  };
  keep("keep_rows", {4, 9, 24});
  keep("keep_rows_of_one_value", {1, 1, 1});
  keep("keep_rows_odd", {3, 5, 7});

  const auto attend = [&](const std::string& name, Shape q, std::int64_t room, std::int64_t heads) {
    const RowInput pool = weights({pool_rows(q[0], room), q[2]});
    rows.push_back({name,
                    "pool_attention",
                    {tokens(q, 3), pool, pool, lengths(q[0], q[1]), lengths(q[0], room)},
                    {{"heads", heads}, {"room", room}},
                    5e-6,
                    kSums,
                    rows.size()});
  };
  attend("pool_attention_beam_1", {5, 1, 24}, 9, 1);
  attend("pool_attention_beam_4", {4, 4, 32}, 70, 4);
  attend("pool_attention_one_key", {3, 5, 8}, 1, 2);
  attend("pool_attention_many_keys", {2, 4, 48}, 300, 2);
}

void add_step_convolutions(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, std::int64_t heads, std::int64_t kernel, std::int64_t at,
                       std::int64_t depth) {
    const RowInput ring = weights({pool_rows(x[0], x[1]), kernel, x[2]}), ancestors = ids({x[0], x[1], depth}, x[1], 4);
    for (const bool is_dynamic : {true, false})
      rows.push_back({(is_dynamic ? "step_" : "light_step_") + name,
                      is_dynamic ? "step_conv" : "light_step_conv",
                      {tokens(x, 4), is_dynamic ? tokens({x[0], x[1], heads * kernel}, 4) : weights({heads, kernel}),
                       ring, ancestors, lengths(x[0], x[1]), position(at)},
                      {{"heads", heads}, {"kernel", kernel}},
                      5e-6,
                      kSums,
                      rows.size()});
  };
  row("conv_1", {3, 4, 10}, 2, 1, 5, 1);
  row("conv_3_at_0", {4, 4, 32}, 4, 3, 0, 2);
  row("conv_3_at_1", {4, 4, 32}, 4, 3, 1, 2);
  row("conv_3_at_2", {4, 4, 32}, 4, 3, 2, 5);
  row("conv_3_at_7", {4, 4, 36}, 1, 3, 7, 2);
  row("conv_31_at_0", {4, 4, 72}, 2, 31, 0, 30);
  row("conv_31_at_12", {5, 1, 72}, 2, 31, 12, 30);
  row("conv_31_at_30", {4, 4, 72}, 2, 31, 30, 40);
  row("conv_31_at_100", {4, 4, 128}, 2, 31, 100, 30);
  row("conv_most_taps_at_last_position", {2, 3, 40}, 2, 64, 1023, 63);
}

void add_best_tokens(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, std::int64_t vocabulary, std::int64_t count,
                       std::int64_t first, std::int64_t slice) {
    rows.push_back({name,
                    "best_tokens",
                    {tokens(x, 2), weights({vocabulary, x[2]}), lengths(x[0], x[1])},
                    {{"count", count}, {"first", first}, {"slice", slice}},
                    5e-6,
                    kSums,
                    rows.size()});
  };
  row("best_tokens", {4, 4, 16}, 29, 5, 2, 5);
  row("best_token_of_all", {5, 1, 8}, 17, 1, 0, 1000);
  row("best_tokens_all_there_are", {3, 3, 12}, 13, 11, 2, 1);
  row("best_tokens_many_tiles", {20, 4, 20}, 531, 8, 2, 70);
  row("best_tokens_large_vocabulary", {3, 2, 8}, 1301, 12, 5, 4);
}

}  // namespace

void add_decoding_rows(std::vector<Row>& rows) {
  add_embeddings_at(rows);
  add_pools(rows);
  add_step_convolutions(rows);
  add_best_tokens(rows);
}

}  // namespace thimble::testing
