// Attention on CUDA: a block has some rows of a head of a sentence, and their scores in shared memory; none goes to the
// workspace.
#include "attention_cuda.h"

namespace thimble {
namespace {

constexpr int kThreads = 128;
constexpr int kFewRows = 8;  // of hypotheses: tiles of 8 rows instead of 32

struct Forward {
  HeadsOnDevice heads;
  const float *q, *k, *v;
  float *y, *sums;
  int tiles, pitch;
};

// From a row of scores to what is left of its probabilities: by a warp, four columns a lane. Returns the logarithm.
__device__ float make_probabilities(const HeadsOnDevice& h, const HeadOnDevice& head, int row, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32, padded = round_up(head.columns, kMixDepth);
  float largest = -INFINITY;
  for (int column = lane; column < head.columns; column += 32) largest = max(largest, scores[column]);
  largest = largest_of_warp(largest);
  __syncwarp();
  float sum = 0;
  for (int column = 4 * lane; column < padded; column += 128) {
    float4 x = simt::load4(scores + column);
    const auto exponential = [&](float score, int at) { return at < head.columns ? expf(score - largest) : 0.0f; };
    x.x = exponential(x.x, column), x.y = exponential(x.y, column + 1);
    x.z = exponential(x.z, column + 2), x.w = exponential(x.w, column + 3);
    sum += x.x + x.y + (x.z + x.w);
    simt::store4(scores + column, x);
  }
  sum = sum_of_warp(sum);
  const float share = 1 / sum;
  for (int column = 4 * lane; column < padded; column += 128) {
    float4 x = simt::load4(scores + column);
    const float4 kept = head.drop_factors(h, row, column);
    x.x *= share * kept.x, x.y *= share * kept.y, x.z *= share * kept.z, x.w *= share * kept.w;
    simt::store4(scores + column, x);
  }
  return largest + logf(sum);
}

template <int kPer>
__global__ __launch_bounds__(kThreads) void attention_forward_kernel(Forward a) {
  constexpr int kRows = tile_rows(kThreads, kPer);
  SIMT_DYN_SHARED(float, scores);
  float* staged = scores + kRows * a.pitch;
  const HeadsOnDevice& h = a.heads;
  const int tile = static_cast<int>(blockIdx.x) % a.tiles, task = static_cast<int>(blockIdx.x) / a.tiles;
  const HeadOnDevice head(h, task / h.heads, task % h.heads);
  const int first = tile * kRows, end = min(first + kRows, h.rows), there = min(end, head.rows) - first;
  const int width = h.head_channels(), padding = first + max(there, 0);
  clear_rows<kThreads>(h, head, a.y, h.rows, padding, end);
  if (a.sums != nullptr && padding + static_cast<int>(threadIdx.x) < end)
    a.sums[head.at_sum(h, padding + static_cast<int>(threadIdx.x))] = 0;
  if (there <= 0) return;

  const HeadRows q{a.q + head.at(h, h.rows, first), h.channels, there};
  score_product<kThreads, kPer>(q, head.of_columns(h, a.k), width, h.by_four, staged,
                                [&](int i, int j, float score) { scores[i * a.pitch + j] = h.scale * score; });
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x) / 32; i < there; i += kThreads / 32) {
    const float logarithm = make_probabilities(h, head, first + i, scores + i * a.pitch);
    if (a.sums != nullptr && threadIdx.x % 32 == 0) a.sums[head.at_sum(h, first + i)] = logarithm;
  }
  float* y = a.y + head.at(h, h.rows, first);
  mix_product<kThreads, kPer, false>(
      scores, a.pitch, there, head.of_columns(h, a.v), width, h.by_four, staged, [&](int i, int channel, float4 four) {
        if (i < there)
          write_four(y + static_cast<std::int64_t>(i) * h.channels + channel, four, width - channel, h.by_four);
      });
}

template <int kPer>
void launch_tiles(Forward a, cudaStream_t stream) {
  constexpr int kRows = tile_rows(kThreads, kPer);
  a.tiles = (a.heads.rows + kRows - 1) / kRows;
  a.pitch = round_up(a.heads.columns, kScoreColumns) + 4;
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(kRows * a.pitch + staged_floats(kRows));
  simt::launch(attention_forward_kernel<kPer>, static_cast<std::int64_t>(a.tiles) * a.heads.sentences * a.heads.heads,
               kThreads, bytes, stream, a);
}

void forward(const OpShape& shape, const KernelArguments& a) {
  HeadsOnDevice heads = HeadsOnDevice::of(shape, a, shape.inputs[0], shape.inputs[1].shape[1], 3);
  launch_attention(heads, floats(a.inputs[0]), floats(a.inputs[1]), floats(a.inputs[2]), floats(a.outputs[0]),
                   floats(a.outputs[1]), stream_of(a));
}

}  // namespace

HeadsOnDevice HeadsOnDevice::of(const OpShape& shape, const KernelArguments& a, const TensorType& q,
                                std::int64_t columns, std::size_t first_length) {
  const Attributes& attributes = shape.attributes;
  const std::int64_t heads = int_attribute(attributes, "heads");
  const bool drops = attributes.count("rate") != 0;
  return {.sentences = static_cast<int>(q.shape[0]),
          .rows = static_cast<int>(q.shape[1]),
          .columns = static_cast<int>(columns),
          .channels = static_cast<int>(q.shape[2]),
          .heads = static_cast<int>(heads),
          .rate = drops ? static_cast<float>(real_attribute(attributes, "rate")) : 0,
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(q.shape[2]) / static_cast<double>(heads))),
          .stream = drops ? static_cast<std::uint32_t>(int_attribute(attributes, "stream")) : 0,
          .first_sample = static_cast<std::uint32_t>(a.samples.begin),
          .row_lengths = ints(a.inputs[first_length]),
          .column_lengths = ints(a.inputs[first_length + 1]),
          .scalars = a.scalars,
          .by_four = q.shape[2] / heads % 4 == 0};
}

void HeadsOnDevice::look_at(std::initializer_list<const void*> addresses) {
  for (const void* address : addresses)
    by_four = by_four && reinterpret_cast<std::uintptr_t>(address) % sizeof(float4) == 0;
}

void launch_attention(const HeadsOnDevice& heads, const float* q, const float* k, const float* v, float* y, float* sums,
                      cudaStream_t stream) {
  Forward a{.heads = heads, .q = q, .k = k, .v = v, .y = y, .sums = sums, .tiles = 0, .pitch = 0};
  a.heads.look_at({q, k, v, y});
  heads.rows <= kFewRows ? launch_tiles<1>(a, stream) : launch_tiles<4>(a, stream);
}

void register_attention_cuda(OpRegistry& registry) {
  registry.add_kernels("attention", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
}

}  // namespace thimble
