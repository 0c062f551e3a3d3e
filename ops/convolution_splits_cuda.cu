// How the sums of a weights' gradient are cut: into blocks, and into splits of the samples, which fill the device at
// the price of partial sums in the workspace.
#include "convolution_weights.h"

namespace thimble {
namespace {

constexpr Bytes kModest{1280 * 1024}, kGenerous{64 * 1024 * 1024};

std::int64_t blocks_of_split(const ConvolutionGeometry& g, int channels, ConvolutionMath math) {
  const WeightsParts parts = weights_parts(g, channels, math);
  return std::int64_t{tiles_of(g.k, parts.made)} * tiles_of(channels, parts.read) * (g.r * g.s / parts.taps);
}

Bytes bytes_of_split(const ConvolutionGeometry& g, int channels) {
  return Bytes{std::int64_t{4} * g.k * channels * g.r * g.s};
}

// In microseconds, as a model: of two blocks on a multiprocessor each takes 1.3 times as long as alone.
double time_of_splits(const ConvolutionGeometry& g, int channels, ConvolutionMath math, int splits) {
  constexpr double kBesideAnother = 0.65, kJoining = 4, kBytesPerMicrosecond = 1e6;
  const double products_per_microsecond = math == ConvolutionMath::tf32 ? 5e5 : 1.6e5;
  const WeightsParts parts = weights_parts(g, channels, math);
  const PixelTiles tiles = weights_tiles(g);
  const double tile = static_cast<double>(tiles.samples) * tiles.rows * tiles.columns * parts.made * parts.read *
                      parts.taps / products_per_microsecond;
  const double block = (tiles_of(tiles.count(), splits) + 1) * tile;  // one for the beginning and the end
  const std::int64_t blocks = tiles_of<std::int64_t>(blocks_of_split(g, channels, math) * splits, kMultiprocessors);
  const double joining =
      splits == 1 ? 0
                  : kJoining + static_cast<double>(bytes_of_split(g, channels).value) * splits / kBytesPerMicrosecond;
  return (blocks == 1 ? block : kBesideAnother * static_cast<double>(blocks) * block) + joining;
}

// The quickest whose partial sums are so many bytes.
int splits_within(const ConvolutionGeometry& g, int channels, ConvolutionMath math, Bytes limit) {
  const std::int64_t tiles = weights_tiles(g).count();
  const std::int64_t most =
      std::min({tiles, limit.value / bytes_of_split(g, channels).value,
                tiles_of<std::int64_t>(4 * kMultiprocessors, blocks_of_split(g, channels, math))});
  int best = 1;
  double best_time = time_of_splits(g, channels, math, 1);
  for (int splits = 2; splits <= most; ++splits) {
    const double time = time_of_splits(g, channels, math, splits);
    if (time >= best_time) continue;
    best = splits;
    best_time = time;
  }
  return best;
}

}  // namespace

WeightsParts weights_parts(const ConvolutionGeometry& g, int channels, ConvolutionMath math) {
  const bool is_whole = makes_whole_window(g);
  if (math == ConvolutionMath::fp32) return is_whole ? WeightsParts{32, 8, 9} : WeightsParts{32, 32, 1};
  if (is_whole) return g.k > 32 ? WeightsParts{64, 16, 9} : WeightsParts{32, channels > 16 ? 32 : 16, 9};
  return g.k > 32 ? WeightsParts{64, 64, 1} : WeightsParts{32, 32, 1};
}

PixelTiles weights_tiles(const ConvolutionGeometry& g) {
  constexpr int kPixels = 128;
  const int step = makes_whole_window(g) ? g.stride : 1, window = makes_whole_window(g) ? 3 : 1;
  return tiles_for_tables(pixel_tiles(g.n, g.out_h, g.out_w, kPixels, step, window, window), g.n, g.out_h, g.out_w,
                          g.stride, window, window,
                          std::max(std::int64_t{g.h} * g.w * g.c, std::int64_t{g.out_h} * g.out_w * g.k));
}

int default_splits(const ConvolutionGeometry& g, int channels, ConvolutionMath math) {
  return splits_within(g, channels, math, kModest);
}
int most_splits(const ConvolutionGeometry& g, int channels, ConvolutionMath math) {
  return splits_within(g, channels, math, kGenerous);
}

Bytes backward_weights_workspace(const ConvolutionGeometry& g, int channels, int splits) {
  return splits == 1 ? Bytes{} : bytes_of_split(g, channels) * splits;
}

int splits_of(const OpShape& shape, const ConvolutionGeometry& g, int channels) {
  if (shape.attributes.count(kSplits) == 0) return default_splits(g, channels, math_of(shape));
  const std::int64_t wanted = int_attribute(shape.attributes, kSplits), tiles = weights_tiles(g).count();
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, tiles));
}

std::vector<Attributes> more_splits(const OpShape& shape, const ConvolutionGeometry& g, int channels) {
  std::vector<Attributes> more;
  int splits = splits_of(shape, g, channels);
  for (Bytes limit = kModest * 2; limit <= kGenerous; limit = limit * 2) {
    const int wider = splits_within(g, channels, math_of(shape), limit);
    if (wider <= splits) continue;
    splits = wider;
    more.push_back(shape.attributes);
    more.back()[kSplits] = std::int64_t{splits};
  }
  return more;
}

double idle_share_of_splits(const ConvolutionGeometry& g, int channels, int splits, ConvolutionMath math) {
  const double least = time_of_splits(g, channels, math, most_splits(g, channels, math));
  return std::max(0.0, time_of_splits(g, channels, math, splits) / least - 1);
}

}  // namespace thimble
