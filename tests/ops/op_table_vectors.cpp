// Rows whose lengths do and do not fill what a device's threads have at once: vectors of 4 values, words of 32 bits,
// slices of 16 or 32 channels, blocks of threads.
#include "op_table_rows.h"

namespace thimble::testing {
namespace {

Attributes norm(std::int64_t relu) { return {{"relu", relu}, {"epsilon", 1e-5}}; }

// The mask's words are parts of a row of channels, whole rows, or neither.
void add_masks(std::vector<Row>& rows) {
  const auto row = [&](const char* name, Shape x) {
    const Shape c{x.back()};
    rows.push_back({name, "batch_norm", {samples(x), weights(c), weights(c)}, norm(1), 5e-6, kSums, rows.size()});
  };
  row("norm_mask_of_4_channels", {9, 4, 4, 4});
  row("norm_mask_of_8_channels", {33, 6, 4, 8});
  row("norm_mask_of_16_channels", {5, 6, 5, 16});
  row("norm_mask_of_16_channels_odd", {5, 3, 5, 16});
  row("norm_mask_of_12_channels", {7, 4, 4, 12});
  row("norm_mask_of_48_channels", {7, 4, 4, 48});
  row("norm_mask_of_160_channels", {6, 5, 5, 160});
  rows.push_back({"relu_mask_whole_words", "relu", {samples({7, 4, 4, 12})}, {}, 0, kExact, rows.size()});
  rows.push_back({"relu_mask_many_words", "relu", {samples({3, 777})}, {}, 0, kExact, rows.size()});
  rows.push_back({"relu_one_value", "relu", {samples({1, 1})}, {}, 0, kExact, rows.size()});
}

void add_many_pixels(std::vector<Row>& rows) {
  rows.push_back({"pool_many_pixels",
                  "global_average_pool",
                  {samples({2, 190, 200, 4})},
                  {},
                  1e-5,
                  "one float sum of 38000 values, whose mean is small",
                  rows.size()});
  for (std::int64_t groups : {1, 3}) {
    const Shape x{2, 50, 44, 6}, c{6};
    Attributes attributes = norm(1);
    attributes["groups"] = groups;
    rows.push_back({"group_norm_many_pixels_" + std::to_string(groups),
                    "group_norm",
                    {samples(x), weights(c), weights(c)},
                    attributes,
                    5e-6,
                    kSums,
                    rows.size()});
  }
}

void add_updates(std::vector<Row>& rows) {
  const Attributes rates{{"momentum", 0.9}, {"weight_decay", 5e-4}};
  const auto row = [&](std::string name, const char* kind, std::size_t inputs, bool first) {
    const std::vector<RowInput> all(inputs, weights({131, 3}));
    rows.push_back({std::move(name), kind, all, rates, 5e-7, kFewRoundings, rows.size(), false, 0, first});
  };
  row("momentum_accumulate_first", "momentum_accumulate", 3, true);
  row("momentum_accumulate_next", "momentum_accumulate", 3, false);
  row("momentum_update", "momentum_update", 2, true);
}

void add_losses(std::vector<Row>& rows) {
  const auto row = [&](const char* name, std::int64_t samples_count, std::int64_t classes) {
    rows.push_back({name,
                    "softmax_cross_entropy",
                    {samples({samples_count, classes}), labels(samples_count)},
                    {},
                    1e-6,
                    kFewRoundings,
                    rows.size()});
  };
  row("cross_entropy_100_classes", 37, 100);
  row("cross_entropy_many_rows", 331, 67);
  row("cross_entropy_one_row", 1, 33);
  row("cross_entropy_long_rows", 19, 1030);
  row("cross_entropy_longer_rows", 2, 11100);
  row("cross_entropy_longer_odd_rows", 2, 11101);
  row("cross_entropy_many_long_rows", 529, 1024);
}

}  // namespace

void add_vector_rows(std::vector<Row>& rows) {
  add_masks(rows);
  add_many_pixels(rows);
  add_updates(rows);
  add_losses(rows);
}

}  // namespace thimble::testing
