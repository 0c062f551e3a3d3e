// Our own tiles against sums in double precision: every way that operands lie, sizes that fill no tile, several
// matrices, parts of the depth. Where CUDA's library is linked instead, the op table judges it.
#include "../../ops/matrix_product_cuda.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "thimble/error.h"

namespace thimble::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Case {
  ProductSizes sizes{};
  std::int64_t count = 1;
  std::int64_t gap = 0;  // floats behind each row
  float alpha = 1;
  bool adds = false, bias = false;
  Bytes workspace{};
};

// Rows with a gap of NaN behind each, matrices with one behind each.
struct Operand {
  DeviceMatrix layout;
  std::vector<float> values;

  Operand(std::int64_t rows, std::int64_t columns, bool transposed, const Case& c, std::mt19937* random) {
    const std::int64_t lines = transposed ? columns : rows, width = transposed ? rows : columns;
    layout = {.stride = width + c.gap, .transposed = transposed, .step = lines * (width + c.gap) + c.gap};
    values.assign(static_cast<std::size_t>(layout.step * c.count), kNaN);
    std::normal_distribution<float> normal;
    if (random == nullptr) return;
    for (std::int64_t m = 0; m < c.count; ++m)
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j) at(m, i, j) = normal(*random);
  }
  float& at(std::int64_t m, std::int64_t i, std::int64_t j) {
    return values[static_cast<std::size_t>(m * layout.step +
                                           (layout.transposed ? j * layout.stride + i : i * layout.stride + j))];
  }
};

void expect_product(const Case& c, bool a_transposed, bool b_transposed) {
  const ProductSizes& s = c.sizes;
  std::mt19937 random(7);
  Operand a(s.rows, s.depth, a_transposed, c, &random), b(s.depth, s.columns, b_transposed, c, &random);
  Operand result(s.rows, s.columns, false, c, c.adds ? &random : nullptr);
  Operand before = result, bias(1, s.columns, false, Case{}, &random);
  const DeviceProduct product{.sizes = s,
                              .a = a.layout,
                              .b = b.layout,
                              .c = result.layout,
                              .count = c.count,
                              .has_bias = c.bias,
                              .most_workspace = c.workspace};
  std::vector<float> workspace(static_cast<std::size_t>(product_workspace(product).value / 4 + 16), kNaN);
  prepare_tiled_product(product)->run({.a = a.values.data(),
                                       .b = b.values.data(),
                                       .bias = c.bias ? bias.values.data() : nullptr,
                                       .c = result.values.data(),
                                       .alpha = c.alpha,
                                       .adds = c.adds,
                                       .workspace = reinterpret_cast<std::byte*>(workspace.data()),
                                       .stream = nullptr});
  for (std::size_t i = workspace.size() - 16; i < workspace.size(); ++i) ASSERT_TRUE(std::isnan(workspace[i]));
  std::size_t written = 0;
  for (std::int64_t m = 0; m < c.count; ++m)
    for (std::int64_t i = 0; i < s.rows; ++i)
      for (std::int64_t j = 0; j < s.columns; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < s.depth; ++k)
          sum += static_cast<double>(a.at(m, i, k)) * static_cast<double>(b.at(m, k, j));
        sum *= static_cast<double>(c.alpha);
        if (c.adds) sum += static_cast<double>(before.at(m, i, j));
        if (c.bias) sum += static_cast<double>(bias.at(0, 0, j));
        ASSERT_NEAR(static_cast<double>(result.at(m, i, j)), sum, 2e-6 * static_cast<double>(s.depth + 8))
            << m << ", " << i << ", " << j;
        ++written;
      }
  std::size_t there = 0;
  for (float value : result.values) there += std::isnan(value) ? 0 : 1;
  EXPECT_EQ(there, written);  // nothing in the gaps
}

void expect_products(const Case& c) {
  for (const bool a_transposed : {false, true})
    for (const bool b_transposed : {false, true}) {
      SCOPED_TRACE(std::string(a_transposed ? "a transposed, " : "a, ") + (b_transposed ? "b transposed" : "b"));
      expect_product(c, a_transposed, b_transposed);
    }
}

TEST(TiledProduct, OfOneValue) { expect_products({.sizes = {1, 1, 1}}); }
TEST(TiledProduct, OfSizesThatFillNoTile) { expect_products({.sizes = {67, 35, 21}, .gap = 3}); }
TEST(TiledProduct, OfOneRow) { expect_products({.sizes = {1, 130, 50}, .adds = true}); }
TEST(TiledProduct, OfOneColumnWithABias) { expect_products({.sizes = {70, 1, 9}, .bias = true}); }
TEST(TiledProduct, AddsScaledToWhatIsThereWithABias) {
  expect_products({.sizes = {33, 66, 40}, .gap = 1, .alpha = -0.5f, .adds = true, .bias = true});
}
TEST(TiledProduct, OfManyMatrices) { expect_products({.sizes = {9, 20, 33}, .count = 5, .gap = 2, .adds = true}); }
TEST(TiledProduct, OfLargeTiles) { expect_products({.sizes = {140, 131, 17}, .count = 34, .gap = 1, .bias = true}); }
TEST(TiledProduct, OfPartsOfTheDepth) {
  expect_products(
      {.sizes = {20, 70, 1030}, .gap = 1, .alpha = 2, .adds = true, .bias = true, .workspace = Bytes{1 << 20}});
}
TEST(TiledProduct, OfPartsAndManyMatrices) {
  expect_products({.sizes = {10, 11, 600}, .count = 3, .gap = 1, .workspace = Bytes{1 << 20}});
}

TEST(TiledProduct, BooksWhatItsPartsNeedAndNotMoreThanAllowed) {
  DeviceProduct product;
  product.sizes = {512, 512, 4000};
  product.most_workspace = Bytes{8 << 20};
  EXPECT_EQ(product_workspace(product), Bytes{8 << 20} + kProductSlack);
  product.most_workspace = Bytes{3 << 20};
  EXPECT_EQ(product_workspace(product), Bytes{3 << 20} + kProductSlack);
  product.most_workspace = Bytes{1 << 20};  // one part needs none; there is something to widen
  EXPECT_EQ(product_workspace(product), kAlignment);
  product.sizes = {4000, 512, 512};
  EXPECT_EQ(product_workspace(product), Bytes{});
}

}  // namespace
}  // namespace thimble::testing
