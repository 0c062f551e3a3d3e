// The convolution engine of the CUDA kernels where no op of the table reaches: prologues, ranges of channels, sums,
// splits, windows that are read a tap at a time. On this CPU, a fiber per CUDA thread, against plain loops.
#include "../../ops/convolution_cuda.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace thimble::testing {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

struct Case {
  const char* name;
  ConvolutionGeometry g;
  int c_begin, c_end;
};

ConvolutionGeometry geometry(int n, int h, int w, int c, int k, int r, int s, int stride, int pad) {
  return {n, h, w, c, k, r, s, stride, pad, (h + 2 * pad - r) / stride + 1, (w + 2 * pad - s) / stride + 1};
}

const Case kCases[] = {
    {"ThreeChannels", geometry(3, 9, 7, 3, 36, 3, 3, 1, 1), 0, 2},
    {"FiveChannels", geometry(2, 6, 6, 5, 5, 3, 3, 1, 1), 3, 5},
    {"Stride2", geometry(1, 17, 18, 20, 36, 3, 3, 2, 1), 5, 18},
    {"Stride2Even", geometry(7, 8, 8, 36, 20, 3, 3, 2, 1), 8, 36},
    {"Pointwise", geometry(3, 7, 9, 36, 40, 1, 1, 1, 0), 7, 36},
    {"PointwiseStride2", geometry(5, 9, 8, 20, 36, 1, 1, 2, 0), 4, 8},
    {"PointwisePadded", geometry(2, 4, 5, 6, 3, 1, 1, 1, 1), 1, 6},
    {"Window7x7", geometry(1, 9, 10, 5, 6, 7, 7, 1, 3), 1, 2},
    {"MostlyPadding", geometry(2, 2, 3, 4, 4, 3, 3, 1, 4), 0, 3},
    {"StrideBeyondWindow", geometry(2, 11, 9, 4, 8, 2, 2, 5, 0), 1, 3},
    // Those above also on emulated tensor cores, which are slow.
    {"Wide", geometry(2, 9, 40, 20, 70, 3, 3, 1, 1), 4, 20},
    {"Stride3", geometry(2, 11, 10, 8, 12, 3, 3, 3, 2), 0, 4},
    {"Window5x5", geometry(2, 8, 7, 12, 17, 5, 5, 1, 2), 4, 12},
    {"Window7x7Stride2", geometry(2, 15, 14, 3, 16, 7, 7, 2, 3), 1, 3},
    {"WindowOblong", geometry(2, 6, 9, 8, 9, 2, 4, 1, 1), 4, 8},
    {"ManySamples", geometry(70, 2, 2, 16, 130, 3, 3, 1, 1), 8, 16},
};
constexpr int kTensorCases = 10;

Floats numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Floats values(count);
  for (float& v : values) v = uniform(random);
  return values;
}

float rounded(float value, ConvolutionMath math) {
  if (math == ConvolutionMath::fp32) return value;
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return static_cast<float>(std::ldexp(std::round(std::ldexp(mantissa, 11)), exponent - 11));
}

Floats rounded(Floats values, ConvolutionMath math) {
  for (float& v : values) v = rounded(v, math);
  return values;
}

std::size_t size_of(std::int64_t a, int b, int c, int d) { return static_cast<std::size_t>(a * b * c * d); }

struct Problem {
  explicit Problem(const ConvolutionGeometry& geometry)
      : g(geometry),
        x(numbers(size_of(g.n, g.h, g.w, g.c), 1)),
        w(numbers(size_of(g.k, g.c, g.r, g.s), 2)),
        y(numbers(size_of(g.n, g.out_h, g.out_w, g.k), 3)),
        scale(numbers(size_of(g.n, g.c, 1, 1), 4)),
        shift(numbers(size_of(g.n, g.c, 1, 1), 5)) {}

  // For every product: visit(index in x, in w, in y).
  template <class Visit>
  void visit(Visit visit) const {
    std::size_t yi = 0;
    for (int n = 0; n < g.n; ++n)
      for (int i = 0; i < g.out_h; ++i)
        for (int j = 0; j < g.out_w; ++j)
          for (int k = 0; k < g.k; ++k, ++yi)
            for (int r = 0; r < g.r; ++r)
              for (int s = 0; s < g.s; ++s) {
                const int row = i * g.stride + r - g.pad, column = j * g.stride + s - g.pad;
                if (row < 0 || row >= g.h || column < 0 || column >= g.w) continue;
                const std::size_t xi = size_of((n * g.h + row) * g.w + column, g.c, 1, 1);
                const std::size_t wi = static_cast<std::size_t>((k * g.c * g.r + r) * g.s + s);
                for (int c = 0; c < g.c; ++c)
                  visit(xi + static_cast<std::size_t>(c), wi + static_cast<std::size_t>(c * g.r * g.s), yi);
              }
  }

  // What the convolution reads of x.
  Floats read(const ConvolutionPrologue& prologue) const {
    Floats values = x;
    if (prologue.scale == nullptr) return values;
    const std::size_t sample = size_of(g.h, g.w, g.c, 1), channels = static_cast<std::size_t>(g.c);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t at = i / sample * static_cast<std::size_t>(prologue.sample_pitch) + i % channels;
      values[i] = std::max(0.0f, values[i] * prologue.scale[at] + prologue.shift[at]);
    }
    return values;
  }

  ConvolutionGeometry g;
  Floats x, w, y, scale, shift;
};

void expect_near(const Floats& got, const Doubles& expected) {
  ASSERT_EQ(got.size(), expected.size());
  double largest = 1e-6;
  for (double v : expected) largest = std::max(largest, std::abs(v));
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], 5e-6 * largest) << "at " << i;  // sums of up to 2,000 products, any order
}

class ConvolutionCuda : public ::testing::TestWithParam<std::tuple<Case, ConvolutionMath>> {
 protected:
  const Case& testcase() const { return std::get<0>(GetParam()); }
  ConvolutionMath math() const { return std::get<1>(GetParam()); }
  const ConvolutionGeometry& g() const { return testcase().g; }

  Problem p{std::get<0>(GetParam()).g};

  // No prologue, one of the batch, one per sample.
  std::vector<ConvolutionPrologue> prologues() const {
    return {{}, {p.scale.data(), p.shift.data(), 0}, {p.scale.data(), p.shift.data(), g().c}};
  }
};

OpShape shape_with(Attributes attributes) { return {{}, {}, std::move(attributes), {}}; }

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST_P(ConvolutionCuda, ForwardOfWhatThePrologueMakes) {
  for (const ConvolutionPrologue& prologue : prologues()) {
    const Floats x = rounded(p.read(prologue), math()), w = rounded(p.w, math());
    Doubles expected(p.y.size());
    p.visit([&](std::size_t xi, std::size_t wi, std::size_t yi) { expected[yi] += double{x[xi]} * w[wi]; });
    Floats y(p.y.size(), kNaN);
    ForwardConvolution call{.geometry = g(), .x = p.x.data(), .w = p.w.data(), .y = y.data()};
    call.prologue = prologue;
    call.math = math();
    convolve_forward(call, nullptr);
    expect_near(y, expected);

    for (std::size_t i = 0; i < y.size(); ++i) expected[i] += p.y[i];
    y = p.y;
    call.added = call.y = y.data();
    convolve_forward(call, nullptr);
    expect_near(y, expected);
    y.assign(y.size(), kNaN);
    call.added = p.y.data();
    convolve_forward(call, nullptr);
    expect_near(y, expected);
  }
}

// Tiles that the small geometries here would not choose.
TEST_P(ConvolutionCuda, EveryKindOfTilesGivesTheSameSums) {
  const Floats x = rounded(p.x, math()), dy = rounded(p.y, math()), w = rounded(p.w, math());
  Doubles y(p.y.size()), dx(p.x.size());
  p.visit([&](std::size_t xi, std::size_t wi, std::size_t yi) {
    y[yi] += double{x[xi]} * w[wi];
    dx[xi] += double{dy[yi]} * w[wi];
  });
  for (int variant = 0; variant < convolution_variants(math()); ++variant) {
    Floats got(p.y.size(), kNaN);
    ForwardConvolution forward{.geometry = g(), .x = p.x.data(), .w = p.w.data(), .y = got.data()};
    forward.math = math();
    forward.variant = variant;
    convolve_forward(forward, nullptr);
    expect_near(got, y);
    got.assign(p.x.size(), kNaN);
    BackwardDataConvolution backward{.geometry = g(), .dy = p.y.data(), .w = p.w.data(), .dx = got.data()};
    backward.math = math();
    backward.variant = variant;
    convolve_backward_data(backward, nullptr);
    expect_near(got, dx);
  }
}

// All channels alone, then some of them into a wider tensor, added to what is there.
TEST_P(ConvolutionCuda, DataGradientOfARangeOfChannels) {
  const Floats dy = rounded(p.y, math()), w = rounded(p.w, math());
  Doubles all(p.x.size());
  p.visit([&](std::size_t xi, std::size_t wi, std::size_t yi) { all[xi] += double{dy[yi]} * w[wi]; });
  Floats dx(p.x.size(), kNaN);
  BackwardDataConvolution call{.geometry = g(), .dy = p.y.data(), .w = p.w.data(), .dx = dx.data()};
  call.math = math();
  convolve_backward_data(call, nullptr);
  expect_near(dx, all);

  const int begin = testcase().c_begin, channels = testcase().c_end - begin, pitch = channels + 2;
  const std::size_t pixels = size_of(g().n, g().h, g().w, 1);
  Floats narrow(pixels * static_cast<std::size_t>(channels), kNaN);
  Floats wide = numbers(pixels * static_cast<std::size_t>(pitch), 9);
  Doubles expected_narrow(narrow.size()), expected_wide(wide.begin(), wide.end());
  for (std::size_t i = 0; i < pixels; ++i)
    for (int c = 0; c < channels; ++c) {
      const double value = all[i * static_cast<std::size_t>(g().c) + static_cast<std::size_t>(begin + c)];
      expected_narrow[i * static_cast<std::size_t>(channels) + static_cast<std::size_t>(c)] = value;
      expected_wide[i * static_cast<std::size_t>(pitch) + static_cast<std::size_t>(c)] += value;
    }
  call.c_begin = begin;
  call.c_end = testcase().c_end;
  call.dx = narrow.data();
  convolve_backward_data(call, nullptr);
  expect_near(narrow, expected_narrow);
  call.added = call.dx = wide.data();
  call.dx_pitch = pitch;
  convolve_backward_data(call, nullptr);
  expect_near(wide, expected_wide);
}

TEST_P(ConvolutionCuda, WeightsGradientOfARangeOfChannelsInSplits) {
  const int begin = testcase().c_begin, end = testcase().c_end, taps = g().r * g().s;
  for (const ConvolutionPrologue& prologue : prologues()) {
    const Floats x = rounded(p.read(prologue), math()), dy = rounded(p.y, math());
    Doubles expected(p.w.size());
    p.visit([&](std::size_t xi, std::size_t wi, std::size_t yi) { expected[wi] += double{x[xi]} * dy[yi]; });
    for (int splits : {1, 2, most_splits(g(), g().c, math())}) {
      Floats dw(p.w.size(), kNaN);
      std::vector<std::byte> workspace(static_cast<std::size_t>(backward_weights_workspace(g(), g().c, splits).value));
      BackwardWeightsConvolution call{.geometry = g(), .x = p.x.data(), .dy = p.y.data(), .dw = dw.data()};
      call.prologue = prologue;
      call.splits = splits_of(shape_with({{kSplits, std::int64_t{splits}}}), g(), g().c);
      call.workspace = workspace.data();
      call.math = math();
      convolve_backward_weights(call, nullptr);
      expect_near(dw, expected);

      dw = p.w;
      Doubles added(dw.begin(), dw.end());
      for (std::size_t i = 0; i < added.size(); ++i)
        if (const int c = static_cast<int>(i) / taps % g().c; c >= begin && c < end) added[i] += expected[i];
      call.added = dw.data();
      call.c_begin = begin;
      call.c_end = end;
      convolve_backward_weights(call, nullptr);
      expect_near(dw, added);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Float, ConvolutionCuda,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Values(ConvolutionMath::fp32)),
                         [](const auto& tested) { return std::get<0>(tested.param).name; });

INSTANTIATE_TEST_SUITE_P(Tensor, ConvolutionCuda,
                         ::testing::Combine(::testing::ValuesIn(kCases, kCases + kTensorCases),
                                            ::testing::Values(ConvolutionMath::tf32)),
                         [](const auto& tested) { return std::get<0>(tested.param).name; });

TEST(ConvolutionCudaSplits, AreModestByDefaultAndGrowOnlyWhereThatIsQuicker) {
  const ConvolutionGeometry wide = geometry(100, 32, 32, 32, 32, 3, 3, 1, 1);
  const ConvolutionGeometry deep = geometry(100, 8, 8, 640, 640, 3, 3, 1, 1);
  EXPECT_GT(default_splits(wide, wide.c), 8);
  EXPECT_LE(backward_weights_workspace(wide, wide.c, default_splits(wide, wide.c)).value, 1280 * 1024);
  EXPECT_GE(most_splits(wide, wide.c), default_splits(wide, wide.c));
  EXPECT_EQ(default_splits(deep, deep.c), 1);
  EXPECT_EQ(backward_weights_workspace(deep, deep.c, 1), Bytes{});
  OpShape shape;
  int before = default_splits(wide, wide.c);
  double idle = idle_share_of_splits(wide, wide.c, before);
  for (const Attributes& more : more_splits(shape, wide, wide.c)) {
    const int splits = splits_of(shape_with(more), wide, wide.c);
    EXPECT_GT(splits, before);
    EXPECT_LT(idle_share_of_splits(wide, wide.c, splits), idle);
    before = splits;
    idle = idle_share_of_splits(wide, wide.c, splits);
  }
  EXPECT_EQ(idle_share_of_splits(wide, wide.c, most_splits(wide, wide.c)), 0);
}

}  // namespace
}  // namespace thimble::testing
