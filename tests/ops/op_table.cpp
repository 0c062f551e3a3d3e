#include "op_table.h"

#include "op_table_rows.h"

namespace thimble::testing {
namespace {

Attributes window(std::int64_t stride, std::int64_t padding) { return {{"stride", stride}, {"padding", padding}}; }
Attributes norm(std::int64_t relu) { return {{"relu", relu}, {"epsilon", 1e-5}}; }
Attributes sgd(std::int64_t nesterov) { return {{"momentum", 0.9}, {"weight_decay", 5e-4}, {"nesterov", nesterov}}; }

void add_convolutions(std::vector<Row>& rows) {
  const auto row = [&](const char* name, Shape x, Shape w, std::int64_t stride, std::int64_t padding) {
    rows.push_back({name, "conv2d", {samples(x), weights(w)}, window(stride, padding), 5e-6, kSums, rows.size()});
  };
  row("conv_3x3", {5, 8, 8, 16}, {16, 16, 3, 3}, 1, 1);
  row("conv_3x3_stride_2", {5, 8, 8, 16}, {32, 16, 3, 3}, 2, 1);
  row("conv_1x1_stride_2", {17, 8, 8, 16}, {32, 16, 1, 1}, 2, 0);
  row("conv_1x1", {5, 5, 5, 16}, {24, 16, 1, 1}, 1, 0);
  row("conv_3_channels", {17, 9, 7, 3}, {16, 3, 3, 3}, 1, 1);
  row("conv_odd_everything", {3, 7, 5, 5}, {7, 5, 3, 3}, 2, 1);
  row("conv_last_column_unused", {9, 6, 6, 4}, {6, 4, 3, 3}, 2, 0);
  row("conv_oblong_window", {4, 6, 7, 8}, {8, 8, 2, 3}, 1, 1);
  row("conv_one_sample", {1, 12, 12, 32}, {32, 32, 3, 3}, 1, 1);
  row("conv_one_pixel", {2, 1, 1, 1}, {1, 1, 1, 1}, 1, 0);
  row("conv_short_last_chunk", {17, 4, 4, 64}, {64, 64, 3, 3}, 1, 1);
  row("conv_many_samples", {100, 4, 4, 16}, {16, 16, 3, 3}, 1, 1);
}

// Attributes of other kinds, as a hostile plan may have them, change nothing.
void add_stray_attributes(std::vector<Row>& rows) {
  const Shape x{3, 5, 5, 8}, w{8, 8, 3, 3}, c{8};
  for (const char* stray : {kAccumulates, kAddsToLast}) {
    Attributes plain = window(1, 1), normalizing = window(1, 1);
    plain[stray] = normalizing[stray] = std::int64_t{1};
    normalizing["epsilon"] = 1e-5;
    normalizing["group"] = std::int64_t{1};
    const std::string name = std::string("_with_stray_") + stray;
    rows.push_back({"conv" + name, "conv2d", {samples(x), weights(w)}, plain, 5e-6, kSums, rows.size()});
    rows.push_back({"norm_conv" + name,
                    "norm_conv2d",
                    {samples(x), weights(c), positive(c), weights(c), weights(c), weights(w)},
                    normalizing,
                    5e-6,
                    kSums,
                    rows.size()});
  }
}

// What sums a gradient over microbatches: in the first and in another, and into what is there already.
void add_weight_sum(std::vector<Row>& rows, const std::string& name, const char* kind, std::vector<RowInput> inputs,
                    Attributes attributes, const Shape& w) {
  attributes["kernel_height"] = w[2];
  attributes["kernel_width"] = w[3];
  Attributes sums = attributes, adds = attributes;
  sums[kAccumulates] = std::int64_t{1};
  adds[kAddsToLast] = std::int64_t{1};
  rows.push_back({name + "_sum_first", kind, inputs, sums, 1e-5, kSums, rows.size()});
  rows.push_back({name + "_sum_next", kind, inputs, sums, 1e-5, kSums, rows.size(), false, 0, false});
  inputs.push_back(weights(w));
  rows.push_back({name + "_add", kind, inputs, adds, 1e-5, kSums, rows.size()});
}

void add_weight_sums(std::vector<Row>& rows) {
  const auto both = [&](const std::string& name, const Shape& x, const Shape& dy, const Shape& w, std::int64_t stride) {
    const Shape c{x[3]};
    Attributes attributes = window(stride, w[2] / 2);
    add_weight_sum(rows, "conv_weights_" + name, "conv2d_backward_weights", {samples(x), samples(dy)}, attributes, w);
    attributes["epsilon"] = 1e-5;
    attributes["group"] = std::int64_t{2};
    attributes["channels"] = x[3];
    add_weight_sum(rows, "norm_conv_weights_" + name, "norm_conv2d_backward_weights",
                   {samples(x), weights(c), positive(c), weights(c), weights(c), samples(dy)}, attributes, w);
  };
  both("3x3", {19, 8, 8, 16}, {19, 8, 8, 16}, {16, 16, 3, 3}, 1);
  both("one_sample", {1, 4, 4, 32}, {1, 4, 4, 64}, {64, 32, 3, 3}, 1);
  both("odd", {5, 7, 5, 5}, {5, 4, 3, 7}, {7, 5, 3, 3}, 2);
  both("1x1", {5, 8, 8, 16}, {5, 4, 4, 24}, {24, 16, 1, 1}, 2);
  for (bool first : {true, false})
    rows.push_back({first ? "momentum_decay_first" : "momentum_decay_next",
                    "momentum_decay",
                    {weights({5, 7, 3}), weights({5, 7, 3})},
                    sgd(0),
                    5e-7,
                    kFewRoundings,
                    rows.size(),
                    false,
                    0,
                    first});
}

void add_batch_norms(std::vector<Row>& rows) {
  const auto row = [&](std::string name, Shape x, std::int64_t relu, bool kept, double offset) {
    const Shape c{x.back()};
    rows.push_back({std::move(name),
                    "batch_norm",
                    {samples(x), weights(c), weights(c)},
                    norm(relu),
                    offset != 0 ? 3e-5 : 5e-6,
                    offset != 0 ? kLargeMean : kSums,
                    rows.size(),
                    kept,
                    offset});
  };
  row("norm", {5, 6, 6, 16}, 0, false, 0);
  row("norm_relu_mask", {17, 6, 5, 32}, 1, false, 0);
  row("norm_relu_output", {17, 6, 5, 32}, 1, true, 0);
  row("norm_relu_mask_odd", {3, 5, 7, 5}, 1, false, 0);
  row("norm_relu_output_odd", {3, 5, 7, 5}, 1, true, 0);
  row("norm_one_sample", {1, 9, 9, 7}, 1, false, 0);
  row("norm_three_values", {3, 1, 1, 3}, 0, false, 0);  // of two values the gradient cancels to rounding errors
  row("norm_wider_than_a_tile", {2, 2, 2, 1100}, 1, false, 0);
  row("norm_mean_of_100_deviations", {8, 8, 8, 16}, 0, false, 100);
  for (std::int64_t relu : {0, 1})
    rows.push_back({relu != 0 ? "norm_inference_relu" : "norm_inference",
                    "batch_norm_inference",
                    {samples({5, 4, 3, 9}), weights({9}), weights({9}), weights({9}), positive({9})},
                    norm(relu),
                    2e-6,
                    kFewRoundings,
                    rows.size()});
  rows.push_back({"running_statistics",
                  "running_statistics",
                  {weights({21}), positive({21}), weights({21}), positive({21})},
                  {{"momentum", 0.1}, {"elements_per_sample", std::int64_t{4}}},
                  1e-6,
                  kFewRoundings,
                  rows.size()});
}

void add_element_wise(std::vector<Row>& rows) {
  rows.push_back({"relu_mask", "relu", {samples({5, 3, 3, 7})}, {}, 0, kExact, rows.size()});
  rows.push_back({"relu_output", "relu", {samples({5, 3, 3, 7})}, {}, 0, kExact, rows.size(), true});
  rows.push_back({"relu_many", "relu", {samples({33, 64})}, {}, 0, kExact, rows.size()});
  rows.push_back({"add", "add", {samples({7, 3, 5, 3}), samples({7, 3, 5, 3})}, {}, 1e-7, kExact, rows.size()});
  rows.push_back({"add_weights", "add", {weights({101}), weights({101})}, {}, 1e-7, kExact, rows.size()});
  rows.push_back({"dropout",
                  "dropout",
                  {samples({9, 5, 5, 3})},
                  {{"rate", 0.3}, {"stream", std::int64_t{7}}},
                  2e-7,
                  kFewRoundings,
                  rows.size()});
  rows.push_back({"dropout_of_nothing",
                  "dropout",
                  {samples({3, 130})},
                  {{"rate", 0.0}, {"stream", std::int64_t{0}}},
                  0,
                  kExact,
                  rows.size()});
  rows.push_back({"accumulate_first", "accumulate", {weights({77})}, {}, 0, kExact, rows.size()});
  rows.push_back({"accumulate_next", "accumulate", {weights({77})}, {}, 1e-7, kExact, rows.size(), false, 0, false});
  for (std::int64_t nesterov : {0, 1})
    rows.push_back({nesterov != 0 ? "sgd_nesterov" : "sgd",
                    "sgd_update",
                    {weights({5, 7, 3}), weights({5, 7, 3}), weights({5, 7, 3})},
                    sgd(nesterov),
                    5e-7,
                    kFewRoundings,
                    rows.size()});
}

void add_heads(std::vector<Row>& rows) {
  rows.push_back({"pool", "global_average_pool", {samples({9, 4, 6, 24})}, {}, 1e-6, kSums, rows.size()});
  rows.push_back({"pool_one_pixel", "global_average_pool", {samples({1, 1, 1, 5})}, {}, 1e-6, kSums, rows.size()});
  rows.push_back(
      {"linear", "linear", {samples({17, 37}), weights({10, 37}), weights({10})}, {}, 2e-6, kSums, rows.size()});
  rows.push_back(
      {"linear_one", "linear", {samples({1, 1}), weights({1, 1}), weights({1})}, {}, 2e-6, kSums, rows.size()});
  rows.push_back({"linear_wide",
                  "linear",
                  {samples({100, 128}), weights({100, 128}), weights({100})},
                  {},
                  3e-6,
                  kSums,
                  rows.size()});
  rows.push_back({"cross_entropy",
                  "softmax_cross_entropy",
                  {samples({17, 10}), labels(17)},
                  {},
                  1e-6,
                  kFewRoundings,
                  rows.size()});
  rows.push_back({"cross_entropy_large_logits",
                  "softmax_cross_entropy",
                  {samples({4, 3}), labels(4)},
                  {},
                  1e-5,
                  "logits of 300 are rounded to 3e-5",
                  rows.size(),
                  false,
                  300});
}

Attributes norm_window(std::int64_t stride, std::int64_t padding, std::int64_t group) {
  return {{"stride", stride}, {"padding", padding}, {"epsilon", 1e-5}, {"group", group}};
}

// Forward and the weights' gradient, with groups that do and do not divide the chunks (of an eighth and a quarter).
void add_norm_convolutions(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, Shape w, std::int64_t stride, std::int64_t padding,
                       std::int64_t group) {
    const Shape c{x.back()};
    Attributes attributes = norm_window(stride, padding, group);
    std::vector<RowInput> inputs{samples(x), weights(c), positive(c), weights(c), weights(c), weights(w)};
    rows.push_back({name, "norm_conv2d", inputs, attributes, 5e-6, kSums, rows.size()});
    attributes["kernel_height"] = w[2];
    attributes["kernel_width"] = w[3];
    attributes["channels"] = x.back();
    const auto extent = [&](std::size_t axis) { return (x[axis] + 2 * padding - w[axis + 1]) / stride + 1; };
    inputs.back() = samples({x[0], extent(1), extent(2), w[0]});
    rows.push_back({name + "_weights", "norm_conv2d_backward_weights", inputs, attributes, 1e-5, kSums, rows.size()});
  };
  const auto added = [&](const std::string& name, Shape x, Shape w, std::int64_t group) {
    const Shape c{x.back()}, y{x[0], x[1], x[2], w[0]};
    Attributes attributes = norm_window(1, w[2] / 2, group);
    attributes["add"] = std::int64_t{1};
    rows.push_back({name,
                    "norm_conv2d",
                    {samples(x), weights(c), positive(c), weights(c), weights(c), weights(w), samples(y)},
                    attributes,
                    5e-6,
                    kSums,
                    rows.size()});
  };
  row("norm_conv_3x3", {5, 8, 8, 16}, {16, 16, 3, 3}, 1, 1, 1);
  row("norm_conv_3x3_stride_2", {17, 8, 8, 16}, {32, 16, 3, 3}, 2, 1, 2);
  row("norm_conv_1x1_stride_2", {17, 8, 8, 16}, {32, 16, 1, 1}, 2, 0, 2);
  row("norm_conv_1x1", {21, 5, 5, 16}, {24, 16, 1, 1}, 1, 0, 4);
  row("norm_conv_3_channels", {17, 9, 7, 3}, {16, 3, 3, 3}, 1, 1, 1);
  row("norm_conv_odd_everything", {19, 7, 5, 5}, {7, 5, 3, 3}, 2, 1, 2);
  row("norm_conv_oblong_window", {4, 6, 7, 8}, {8, 8, 2, 3}, 1, 1, 3);
  row("norm_conv_one_sample", {1, 12, 12, 32}, {32, 32, 3, 3}, 1, 1, 4);
  row("norm_conv_one_pixel", {2, 1, 1, 1}, {1, 1, 1, 1}, 1, 0, 1);
  row("norm_conv_whole_chunks", {17, 4, 4, 64}, {64, 64, 3, 3}, 1, 1, 1000);
  row("norm_conv_many_samples", {100, 4, 4, 16}, {16, 16, 3, 3}, 1, 1, 5);
  added("norm_conv_added", {21, 6, 5, 16}, {16, 16, 3, 3}, 2);
  added("norm_conv_added_other_channels", {5, 4, 4, 8}, {24, 8, 1, 1}, 1);
  added("norm_conv_added_whole_chunks", {17, 4, 3, 5}, {5, 5, 3, 3}, 1000);
}

// Slices that do and do not divide the channels, with a sum or a second convolution (1x1, its stride) or neither.
void add_norm_convolution_gradients(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, Shape w, std::int64_t stride, std::int64_t padding,
                       std::int64_t channels, bool add, std::int64_t second_stride) {
    const Shape c{x.back()};
    Attributes attributes = window(stride, padding);
    attributes["epsilon"] = 1e-5;
    attributes["channels"] = channels;
    const auto extent = [&](std::size_t axis) { return (x[axis] + 2 * padding - w[axis + 1]) / stride + 1; };
    std::vector<RowInput> inputs{samples({x[0], extent(1), extent(2), w[0]}),
                                 weights(w),
                                 samples(x),
                                 weights(c),
                                 positive(c),
                                 weights(c),
                                 weights(c)};
    if (add) {
      attributes["add"] = std::int64_t{1};
      inputs.push_back(samples(x));
    }
    if (second_stride != 0) {
      attributes["second_stride"] = second_stride;
      attributes["second_padding"] = std::int64_t{0};
      inputs.push_back(samples({x[0], (x[1] - 1) / second_stride + 1, (x[2] - 1) / second_stride + 1, 6}));
      inputs.push_back(weights({6, x[3], 1, 1}));
    }
    const char* kind = second_stride != 0 ? "norm_conv2d_pair_backward_data" : "norm_conv2d_backward_data";
    rows.push_back({name, kind, inputs, attributes, 1e-5, kSums, rows.size()});
  };
  row("norm_conv_data", {5, 8, 8, 16}, {16, 16, 3, 3}, 1, 1, 8, false, 0);
  row("norm_conv_data_second", {17, 8, 8, 16}, {32, 16, 3, 3}, 2, 1, 8, false, 2);
  row("norm_conv_data_added", {21, 5, 5, 24}, {16, 24, 1, 1}, 1, 0, 16, true, 0);
  row("norm_conv_data_odd_everything", {19, 7, 5, 5}, {7, 5, 3, 3}, 2, 1, 2, false, 1);
  row("norm_conv_data_all_channels", {4, 6, 7, 8}, {8, 8, 2, 3}, 1, 1, 1000, false, 2);
  row("norm_conv_data_second_in_groups", {21, 48, 44, 8}, {4, 8, 3, 3}, 1, 1, 8, false, 1);
  row("norm_conv_data_one_sample", {1, 12, 12, 32}, {32, 32, 3, 3}, 1, 1, 8, true, 0);
  row("norm_conv_data_one_channel_at_a_time", {3, 4, 4, 3}, {3, 3, 3, 3}, 1, 1, 1, false, 1);
}

// What is left of batch normalisation where convolutions take in the rest.
void add_parts_of_norms(std::vector<Row>& rows) {
  for (const Shape& x : {Shape{17, 6, 5, 32}, Shape{3, 5, 7, 5}, Shape{1, 9, 9, 7}}) {
    const std::string suffix = "_of_" + std::to_string(x[0]);
    rows.push_back({"statistics" + suffix, "batch_statistics", {samples(x)}, {}, 5e-6, kSums, rows.size()});
    const Shape c{x.back()};
    Attributes attributes = norm(1);
    attributes["gate_input"] = std::int64_t{1};
    rows.push_back({"norm_backward_gated_by_input" + suffix,
                    "batch_norm_backward",
                    {samples(x), samples(x), weights(c), weights(c), positive(c), weights(c)},
                    attributes,
                    1e-5,
                    kSums,
                    rows.size()});
  }
}

// By slices that do and do not divide the channels, and of more channels than there are.
void add_sliced_weight_sums(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, const Shape& x, const Shape& dy, const Shape& w, std::int64_t stride,
                       std::int64_t group, std::int64_t channels) {
    const Shape c{x[3]};
    Attributes attributes = norm_window(stride, w[2] / 2, group);
    attributes["channels"] = channels;
    add_weight_sum(rows, "norm_conv_weights_sliced_" + name, "norm_conv2d_backward_weights",
                   {samples(x), weights(c), positive(c), weights(c), weights(c), samples(dy)}, attributes, w);
  };
  row("3x3", {19, 8, 8, 32}, {19, 8, 8, 16}, {16, 32, 3, 3}, 1, 4, 8);
  row("odd", {5, 7, 5, 5}, {5, 4, 3, 7}, {7, 5, 3, 3}, 2, 2, 2);
  row("1x1", {5, 8, 8, 24}, {5, 4, 4, 8}, {8, 24, 1, 1}, 2, 1000, 16);
  row("one_sample", {1, 4, 4, 32}, {1, 4, 4, 16}, {16, 32, 3, 3}, 1, 1, 8);
  row("too_wide", {3, 4, 4, 8}, {3, 4, 4, 8}, {8, 8, 3, 3}, 1, 2, 1000);
}

void add_norm_pools(std::vector<Row>& rows) {
  for (const Shape& x : {Shape{17, 6, 5, 32}, Shape{3, 5, 7, 5}, Shape{1, 9, 9, 7}, Shape{2, 2, 2, 1100}}) {
    const std::string suffix = "_of_" + std::to_string(x[3]);
    const Shape c{x[3]};
    std::vector<RowInput> inputs{samples(x), weights(c), positive(c), weights(c), weights(c)};
    const Attributes attributes{{"epsilon", 1e-5}};
    rows.push_back({"norm_pool" + suffix, "norm_pool", inputs, attributes, 5e-6, kSums, rows.size()});
    inputs.push_back(samples({x[0], x[3]}));
    rows.push_back({"norm_pool_backward" + suffix, "norm_pool_backward", inputs, attributes, 1e-5, kSums, rows.size()});
  }
}

void add_group_norm_pools(std::vector<Row>& rows) {
  for (std::int64_t groups : {4, 24}) {
    const Shape x{19, 5, 6, 24}, c{24}, of_groups{19, groups};
    const std::string suffix = "_of_groups_" + std::to_string(groups);
    RowInput variance = samples(of_groups);
    variance.fill = Fill::positive;
    std::vector<RowInput> inputs{samples(x), samples(of_groups), variance, weights(c), weights(c)};
    const Attributes attributes{{"epsilon", 1e-5}};
    rows.push_back({"norm_pool" + suffix, "norm_pool", inputs, attributes, 5e-6, kSums, rows.size()});
    inputs.push_back(samples({19, 24}));
    rows.push_back({"norm_pool_backward" + suffix, "norm_pool_backward", inputs, attributes, 1e-5, kSums, rows.size()});
  }
}

// Groups of one channel, of some, of all; a channel count beyond a tile, a sample of one pixel.
void add_group_norms(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, std::int64_t groups, std::int64_t relu, double offset) {
    const Shape c{x.back()}, of_groups{x[0], groups};
    Attributes attributes = norm(relu);
    attributes["groups"] = groups;
    const double tolerance = offset != 0 ? 3e-5 : 5e-6;
    const char* reason = offset != 0 ? kLargeMean : kSums;
    rows.push_back({"group_norm_" + name,
                    "group_norm",
                    {samples(x), weights(c), weights(c)},
                    attributes,
                    tolerance,
                    reason,
                    rows.size(),
                    false,
                    offset});
    rows.push_back({"group_statistics_" + name,
                    "group_statistics",
                    {samples(x)},
                    {{"groups", groups}},
                    tolerance,
                    reason,
                    rows.size(),
                    false,
                    offset});
  };
  row("plain", {5, 6, 6, 16}, 4, 0, 0);
  row("relu", {17, 6, 5, 32}, 16, 1, 0);
  row("channels_alone", {9, 8, 8, 16}, 16, 1, 0);
  row("all_channels", {3, 5, 7, 5}, 1, 1, 0);
  row("one_sample", {1, 9, 9, 21}, 7, 1, 0);
  row("one_pixel", {19, 1, 1, 24}, 3, 1, 0);
  row("wider_than_a_tile", {2, 2, 2, 1100}, 11, 1, 0);
  row("more_rows_than_a_block", {3, 17, 13, 6}, 2, 0, 0);
  row("mean_of_100_deviations", {8, 8, 8, 16}, 4, 0, 100);
}

// With moments that are not those of x.
void add_group_norm_gradients(std::vector<Row>& rows) {
  for (std::int64_t relu : {0, 1}) {
    const Shape x{17, 6, 5, 24}, c{24};
    RowInput variance = samples({17, 6});
    variance.fill = Fill::positive;
    std::vector<RowInput> inputs{samples(x), samples(x), weights(c), samples({17, 6}), variance};
    if (relu != 0) inputs.push_back(weights(c));
    rows.push_back({relu != 0 ? "group_norm_backward_gated" : "group_norm_backward", "group_norm_backward", inputs,
                    norm(relu), 1e-5, kSums, rows.size()});
  }
}

// Convolutions that normalise by every sample's groups: samples at a time that do and do not divide the chunks, which
// the sizes decide in the data gradient.
void add_group_norm_convolutions(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, Shape x, Shape w, std::int64_t stride, std::int64_t groups,
                       std::int64_t at_a_time) {
    const Shape c{x.back()}, y{x[0], (x[1] - 1) / stride + 1, (x[2] - 1) / stride + 1, w[0]};
    RowInput mean = samples({x[0], groups}), variance = samples({x[0], groups});
    variance.fill = Fill::positive;
    const auto add = [&](const char* suffix, const char* kind, std::vector<RowInput> inputs, Attributes attributes,
                         double tolerance) {
      rows.push_back({name + suffix, kind, std::move(inputs), std::move(attributes), tolerance, kSums, rows.size()});
    };
    Attributes attributes = window(stride, w[2] / 2), forward = norm_window(stride, w[2] / 2, at_a_time);
    attributes["epsilon"] = 1e-5;
    add("", "norm_conv2d", {samples(x), mean, variance, weights(c), weights(c), weights(w)}, forward, 5e-6);
    Attributes with_kernel = forward, adds = attributes, pair = attributes;
    forward["add"] = adds["add"] = std::int64_t{1};
    add("_added", "norm_conv2d", {samples(x), mean, variance, weights(c), weights(c), weights(w), samples(y)}, forward,
        5e-6);
    with_kernel["kernel_height"] = w[2];
    with_kernel["kernel_width"] = w[3];
    with_kernel["channels"] = x.back() * 2 / 5;  // a slice that ends within a group
    add("_weights", "norm_conv2d_backward_weights", {samples(x), mean, variance, weights(c), weights(c), samples(y)},
        with_kernel, 1e-5);
    std::vector<RowInput> data{samples(y), weights(w), samples(x), mean, variance, weights(c), weights(c)};
    add("_data", "norm_conv2d_backward_data", data, attributes, 1e-5);
    data.push_back(samples(x));
    add("_data_added", "norm_conv2d_backward_data", data, adds, 1e-5);
    data.back() = samples({x[0], y[1], y[2], 6});
    data.push_back(weights({6, x[3], 1, 1}));
    pair["second_stride"] = stride;
    pair["second_padding"] = std::int64_t{0};
    add("_data_second", "norm_conv2d_pair_backward_data", data, pair, 1e-5);
  };
  row("group_norm_conv", {21, 8, 8, 16}, {16, 16, 3, 3}, 1, 4, 2);
  row("group_norm_conv_stride_2", {17, 8, 8, 32}, {24, 32, 3, 3}, 2, 16, 1);
  row("group_norm_conv_1x1", {5, 5, 6, 12}, {7, 12, 1, 1}, 1, 12, 1000);
  row("group_norm_conv_two_at_a_time", {21, 32, 32, 16}, {8, 16, 3, 3}, 1, 2, 2);
  row("group_norm_conv_one_sample", {1, 9, 7, 10}, {3, 10, 3, 3}, 1, 1, 1);
}

void add_pictures(std::vector<Row>& rows) {
  const auto row = [&](const std::string& name, const Shape& pictures, std::int64_t padding) {
    Attributes attributes{{"padding", padding}};
    for (std::int64_t c = 0; c < pictures[1]; ++c) {
      attributes["mean_" + std::to_string(c)] = 110.3 + 7 * static_cast<double>(c);
      attributes["deviation_" + std::to_string(c)] = 62.5 - static_cast<double>(c);
    }
    const auto add = [&](const std::string& suffix, std::vector<RowInput> inputs) {
      rows.push_back({name + suffix, "crop_pictures", std::move(inputs), attributes, 1e-7, kExact, rows.size()});
    };
    add("_plain", {planes(pictures)});
    add("", {planes(pictures), shifts(pictures[0], padding)});
  };
  row("crop_pictures", {9, 3, 32, 32}, 4);
  row("crop_pictures_odd", {3, 3, 7, 5}, 4);
  row("crop_pictures_gray", {2, 1, 5, 9}, 2);
  row("crop_pictures_unpadded", {2, 8, 2, 2}, 0);
}

}  // namespace

std::vector<Row> op_table() {
  std::vector<Row> rows;
  add_convolutions(rows);
  add_weight_sums(rows);
  add_batch_norms(rows);
  add_element_wise(rows);
  add_heads(rows);
  add_norm_convolutions(rows);
  add_norm_convolution_gradients(rows);
  add_parts_of_norms(rows);
  add_stray_attributes(rows);
  add_sliced_weight_sums(rows);
  add_norm_pools(rows);
  add_group_norms(rows);
  add_group_norm_gradients(rows);
  add_group_norm_convolutions(rows);
  add_group_norm_pools(rows);
  add_token_rows(rows);
  add_decoding_rows(rows);
  add_vector_rows(rows);
  add_pictures(rows);
  return rows;
}

}  // namespace thimble::testing
