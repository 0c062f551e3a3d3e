#include "thimble/dynamic_conv.h"

#include <gtest/gtest.h>

#include "all_ops.h"
#include "thimble/error.h"

namespace thimble {
namespace {

TEST(DynamicConv, HasTheRecipesParameters) {
  const Graph g = build_dynamic_conv(parse_dynamic_conv("dynamicconv-iwslt"), registry(), {2, 5, 7}, Mode::train);
  EXPECT_EQ(parameter_count(g), 38'685'184);
}

// Instead of 512 x 4K predicted taps, each layer has 4K.
TEST(DynamicConv, LightweightLayersHaveFewer) {
  const Graph g = build_dynamic_conv(parse_dynamic_conv("lightconv-iwslt"), registry(), {2, 5, 7}, Mode::train);
  EXPECT_EQ(parameter_count(g), 38'685'184 - 511 * 4 * (149 + 118));
}

TEST(DynamicConv, RefusesWhatCannotBe) {
  EXPECT_THROW(parse_dynamic_conv("dynamicconv-small"), InvalidArgument);
  const auto build = [](DynamicConv model, SentenceShape shape) {
    return build_dynamic_conv(model, registry(), shape, Mode::train);
  };
  EXPECT_THROW(build({.channels = 510}, {1, 1, 1}), InvalidArgument);
  EXPECT_THROW(build({.encoder_kernels = {}}, {1, 1, 1}), InvalidArgument);
  EXPECT_THROW(build({.decoder_kernels = {65}}, {1, 1, 1}), InvalidArgument);
  EXPECT_THROW(build({.dropout = 1}, {1, 1, 1}), InvalidArgument);
  EXPECT_THROW(build({}, {0, 1, 1}), InvalidArgument);
  EXPECT_THROW(build({}, {1, 1025, 1}), InvalidArgument);
}

TEST(DynamicConv, DropsNothingInEvaluation) {
  const Graph g = build_dynamic_conv({}, registry(), {2, 5, 7}, Mode::evaluate);
  for (const Op& op : g.ops) {
    EXPECT_NE(op.kind, "dropout");
    const auto rate = op.attributes.find("rate");
    EXPECT_TRUE(rate == op.attributes.end() || std::get<double>(rate->second) == 0) << op.name;
  }
}

}  // namespace
}  // namespace thimble
