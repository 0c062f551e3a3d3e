// Embeddings on CUDA. A thread makes the positions of its channels once for several sentences. In the gradient every
// block owns some rows of the table and looks for their tokens itself, so sums are in the order of the tokens, without
// atomics and without a sort: reading all ids is less than writing the rows.
#include <cmath>
#include <limits>

#include "accumulation.h"
#include "cuda_ops.h"
#include "quads.h"
#include "tokens.h"

namespace thimble {
namespace {

constexpr int kWarps = kBlock / kLanes;

// ---- forward

constexpr std::int64_t kSentences = 8;       // of a thread, if there are not too many
constexpr std::int64_t kMostGroups = 65535;  // of sentences: a grid's limit

struct LookUpSizes {
  int sentences, room, channels, vocabulary;
  std::int64_t first_position;
  float scale;
};

// As make_positions on the CPU: all sines, then all cosines.
__device__ float position_value(std::int64_t position, int channel, int half) {
  const int i = channel % half;
  const double rate = exp(-log(10000.0) * static_cast<double>(i) / static_cast<double>(half - 1));
  const double angle = static_cast<double>(position) * rate;
  return static_cast<float>(channel < half ? sin(angle) : cos(angle));
}

// Row t of every sentence is at position t, or all rows are at `position`. The CPU throws for an id that the table
// lacks; here it gives NaN, which no loss hides.
template <bool kWhole>
__global__ void embedding_forward_kernel(const std::int32_t* __restrict__ ids, const std::int32_t* __restrict__ lengths,
                                         const float* __restrict__ table, const std::int32_t* position,
                                         float* __restrict__ y, LookUpSizes s) {
  const int quads = (s.channels + kQuad - 1) / kQuad;
  if (global_thread() >= std::int64_t{s.room} * quads) return;
  const int t = static_cast<int>(global_thread() / quads), at = static_cast<int>(global_thread() % quads) * kQuad;
  const std::int64_t p = s.first_position + (position != nullptr ? position[0] : t);
  const int half = s.channels / 2;
  float4 add = {0, 0, 0, 0};
  add.x = position_value(p, at, half);
  add.y = position_value(p, at + 1, half);
  if (at + 2 < s.channels) {  // an even number
    add.z = position_value(p, at + 2, half);
    add.w = position_value(p, at + 3, half);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int b = static_cast<int>(blockIdx.y); b < s.sentences; b += static_cast<int>(gridDim.y)) {
    const std::int64_t row = std::int64_t{b} * s.room + t;
    float4 value = {0, 0, 0, 0};
    if (t < lengths[b]) {
      const int id = ids[row];
      value = {nan, nan, nan, nan};
      if (id >= 0 && id < s.vocabulary)
        value = map_quad([&](float x, float sum) { return s.scale * x + sum; },
                         load_quad<kWhole>(table + std::int64_t{id} * s.channels, at, s.channels), add);
    }
    store_quad<kWhole>(y + row * s.channels, at, s.channels, value);
  }
}

template <bool kWhole>
void launch_look_up(const KernelArguments& a, const LookUpSizes& s, const std::int32_t* position) {
  const unsigned groups = static_cast<unsigned>(std::min(kMostGroups, (s.sentences + kSentences - 1) / kSentences));
  simt::launch(embedding_forward_kernel<kWhole>, dim3(blocks_for(s.room * quads_of(s.channels)), groups), kBlock, 0,
               stream_of(a), ints(a.inputs[0]), ints(a.inputs[1]), floats(a.inputs[2]), position, floats(a.outputs[0]),
               s);
}

void look_up(const OpShape& shape, const KernelArguments& a, const std::int32_t* position) {
  const std::vector<std::int64_t>& y = shape.outputs[0].shape;
  const LookUpSizes sizes{static_cast<int>(y[0]),
                          static_cast<int>(y[1]),
                          static_cast<int>(y[2]),
                          static_cast<int>(shape.inputs[2].shape[0]),
                          int_attribute(shape.attributes, "first_position"),
                          static_cast<float>(real_attribute(shape.attributes, "scale"))};
  if (lie_in_quads(y[2], {a.inputs[2], a.outputs[0]}))
    launch_look_up<true>(a, sizes, position);
  else
    launch_look_up<false>(a, sizes, position);
}

// ---- backward

constexpr int kRows = 8;        // of the table, of a block: kSpread apart, for frequent ids are neighbours
constexpr int kSpread = 128;    // a power of two
constexpr int kSteps = 4;       // of kLanes ids that a warp looks at together
constexpr int kListed = 256;    // tokens that a warp finds before they are added up
constexpr int kPieceQuads = 4;  // of a lane
constexpr int kPiece = kPieceQuads * kQuad * kLanes;  // channels added up at once
constexpr int kAtOnce = 2;                            // tokens of a row

struct GradientSizes {
  int tokens, room, channels, vocabulary;
  float scale;
};

// Row k of a block is first + k * kSpread.
__device__ int first_row() {
  const int block = static_cast<int>(blockIdx.x);
  return block / kSpread * (kRows * kSpread) + block % kSpread;
}

struct Found {
  int token, row;
};

// A warp's tokens from `next` on whose ids are of this block's rows, in order; as many as there is room for.
__device__ int find_tokens(const std::int32_t* ids, const std::int32_t* lengths, const GradientSizes& s, int end,
                           int& next, Found* found) {
  const int first = first_row();
  int count = 0;
  for (; next < end && count <= kListed - kSteps * kLanes; next += kSteps * kLanes) {
    int id[kSteps];
    for (int i = 0; i < kSteps; ++i) {
      const int token = next + i * kLanes + lane_of_thread();
      id[i] = token < end ? ids[token] : -1;
    }
    for (int i = 0; i < kSteps; ++i) {
      const int token = next + i * kLanes + lane_of_thread();
      bool is_mine = (id[i] & ~((kRows - 1) * kSpread)) == first && id[i] < s.vocabulary;
      if (is_mine) is_mine = token % s.room < lengths[token / s.room];  // what padding holds is not read
      const unsigned mine = __ballot_sync(kAllLanes, is_mine);
      if (is_mine) found[count + __popc(mine & ((1u << lane_of_thread()) - 1))] = {token, id[i] / kSpread % kRows};
      count += __popc(mine);
    }
  }
  return count;
}

// Which rows a warp has tokens of, a bit each.
__device__ unsigned rows_of(const Found* found, int count) {
  unsigned rows = 0;
  for (int i = lane_of_thread(); i < count; i += kLanes) rows |= 1u << found[i].row;
  return __reduce_or_sync(kAllLanes, rows);
}

// The tokens of one row, in order.
__device__ int tokens_of(const Found* found, int count, int row, int* tokens) {
  int kept = 0;
  for (int i = 0; i < count; i += kLanes) {
    const int at = i + lane_of_thread();
    const bool is_of_row = at < count && found[at].row == row;
    const unsigned of_row = __ballot_sync(kAllLanes, is_of_row);
    if (is_of_row) tokens[kept + __popc(of_row & ((1u << lane_of_thread()) - 1))] = found[at].token;
    kept += __popc(of_row);
  }
  __syncwarp();
  return kept;
}

__device__ int piece_quad_at(int q) { return (q * kLanes + lane_of_thread()) * kQuad; }

// Adds kTokens rows of the gradient, from channel `begin` on.
template <bool kWhole, int kTokens>
__device__ void add_tokens(const float* dy, const int* tokens, int begin, const GradientSizes& s,
                           float4 (&sums)[kPieceQuads]) {
  float4 values[kTokens][kPieceQuads];
  for (int i = 0; i < kTokens; ++i)
    for (int q = 0; q < kPieceQuads; ++q)
      values[i][q] = load_quad<kWhole>(dy + std::int64_t{tokens[i]} * s.channels, begin + piece_quad_at(q), s.channels);
  for (int i = 0; i < kTokens; ++i)
    for (int q = 0; q < kPieceQuads; ++q)
      sums[q] = map_quad([&](float sum, float value) { return sum + s.scale * value; }, sums[q], values[i][q]);
}

// Rows without tokens: what they add to, or zeros; nothing to do where that is there already.
template <bool kWhole>
__device__ void copy_row(const float* base, float* sums, int row, int channels) {
  if (base == sums) return;
  const std::int64_t begin = std::int64_t{row} * channels;
  for (int at = static_cast<int>(threadIdx.x) * kQuad; at < channels; at += kBlock * kQuad)
    store_quad<kWhole>(sums + begin, at, channels,
                       base != nullptr ? load_quad<kWhole>(base + begin, at, channels) : float4{0, 0, 0, 0});
}

// Every warp looks through an eighth of the tokens. Each row's are added up by the warps that found some, then what
// those have, in order. `sums` begins as `base`, or as zeros.
template <bool kWhole>
__global__ void __launch_bounds__(kBlock, 3)
    embedding_backward_kernel(const std::int32_t* ids, const std::int32_t* lengths, const float* dy, const float* base,
                              float* sums, GradientSizes s) {
  SIMT_SHARED(Found, found, [kWarps][kListed]);
  SIMT_SHARED(int, tokens, [kWarps][kListed]);
  SIMT_SHARED(float, partial, [kWarps][kPiece]);
  SIMT_SHARED(unsigned, present, [kWarps]);
  const int warp = warp_of_thread(), share = (s.tokens + kWarps - 1) / kWarps;
  const int end = min(s.tokens, (warp + 1) * share);
  for (int next = warp * share, is_last = 0; !is_last; base = sums) {  // once, but for a very frequent id
    const int count = find_tokens(ids, lengths, s, end, next, found[warp]);
    __syncwarp();
    const unsigned mine = rows_of(found[warp], count);
    if (lane_of_thread() == 0) present[warp] = mine;
    is_last = __syncthreads_and(next >= end);
    unsigned all = 0;
    for (int w = 0; w < kWarps; ++w) all |= present[w];
    for (int k = 0; k < kRows && first_row() + k * kSpread < s.vocabulary; ++k) {
      const int row = first_row() + k * kSpread;
      if ((all >> k & 1) == 0) {
        copy_row<kWhole>(base, sums, row, s.channels);
        continue;
      }
      const int of_row = (mine >> k & 1) != 0 ? tokens_of(found[warp], count, k, tokens[warp]) : 0;
      for (int begin = 0; begin < s.channels; begin += kPiece) {
        if (of_row != 0) {
          float4 added[kPieceQuads];
          for (int q = 0; q < kPieceQuads; ++q) added[q] = {0, 0, 0, 0};
          int i = 0;
          for (; i + kAtOnce <= of_row; i += kAtOnce)
            add_tokens<kWhole, kAtOnce>(dy, &tokens[warp][i], begin, s, added);
          for (; i < of_row; ++i) add_tokens<kWhole, 1>(dy, &tokens[warp][i], begin, s, added);
          for (int q = 0; q < kPieceQuads; ++q) simt::store4(&partial[warp][piece_quad_at(q)], added[q]);
        }
        __syncthreads();
        const int at = static_cast<int>(threadIdx.x) * kQuad;
        const std::int64_t first = std::int64_t{row} * s.channels;
        if (at < kPiece && begin + at < s.channels) {
          float4 sum = base != nullptr ? load_quad<kWhole>(base + first, begin + at, s.channels) : float4{0, 0, 0, 0};
          for (int w = 0; w < kWarps; ++w)
            if ((present[w] >> k & 1) != 0) sum = sum + simt::load4(&partial[w][at]);
          store_quad<kWhole>(sums + first, begin + at, s.channels, sum);
        }
        __syncthreads();
      }
    }
    // Nobody looks at what was present any more: a pass that is not the last has found tokens of a row, so the barrier
    // above was behind the last look.
  }
}

template <bool kWhole>
void launch_gradient(const KernelArguments& a, const float* base, const GradientSizes& s) {
  const int blocks = s.vocabulary / (kRows * kSpread) * kSpread + std::min(kSpread, s.vocabulary % (kRows * kSpread));
  simt::launch(embedding_backward_kernel<kWhole>, blocks, kBlock, 0, stream_of(a), ints(a.inputs[0]), ints(a.inputs[1]),
               floats(a.inputs[2]), base, floats(a.outputs[0]), s);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::vector<std::int64_t>& dy = shape.inputs[2].shape;
  const GradientSizes sizes{static_cast<int>(dy[0] * dy[1]), static_cast<int>(dy[1]), static_cast<int>(dy[2]),
                            static_cast<int>(shape.outputs[0].shape[0]),
                            static_cast<float>(real_attribute(shape.attributes, "scale"))};
  const float* base = nullptr;
  if (flag(shape.attributes, kAddsToLast))
    base = floats(a.inputs.back());
  else if (flag(shape.attributes, kAccumulates) && !a.first_microbatch)
    base = floats(a.outputs[0]);
  if (lie_in_quads(dy[2], {a.inputs[2], base, a.outputs[0]}))
    launch_gradient<true>(a, base, sizes);
  else
    launch_gradient<false>(a, base, sizes);
}

}  // namespace

void register_embedding_cuda(OpRegistry& registry) {
  registry.add_kernels("embedding", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& shape) {
                          return function_kernel(
                              shape, [](const OpShape& s, const KernelArguments& a) { look_up(s, a, nullptr); });
                        }});
  registry.add_kernels("embedding_at", kCudaBackend, {.workspace = {}, .make_kernel = [](const OpShape& shape) {
                                                        return function_kernel(
                                                            shape, [](const OpShape& s, const KernelArguments& a) {
                                                              look_up(s, a, ints(a.inputs[3]));
                                                            });
                                                      }});
  registry.add_kernels("embedding_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
