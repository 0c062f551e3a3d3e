// The gradient of attention on CUDA. Where the scores of a head of a sentence fit into shared memory, a block makes all
// of its gradients and nothing goes to the workspace. Those of longer sentences are made by tiles of rows, then by
// tiles of columns; the queries' gradient, which may lie over what the second kernel reads, waits in the workspace.
#include <algorithm>

#include "attention_cuda.h"

namespace thimble {
namespace {

enum BackwardInput : std::size_t { kDy, kQ, kK, kV, kSums, kRowLengths };

constexpr int kPer = 4;                 // rows of a thread where a block has a whole head
constexpr int kMostShared = 200 << 10;  // bytes; half of it lets two blocks run at once
constexpr int kLongThreads = 256, kLongRows = tile_rows(kLongThreads, 1);
constexpr const char* kHeadsAtOnce = "heads_at_once";

struct Backward {
  HeadsOnDevice heads;
  const float *dy, *q, *k, *v, *sums;
  float *dq, *dk, *dv;
  int pitch;
  // Of long sentences:
  float *waiting, *dots;  // {sentences, rows, heads at once, head channels} and without the last
  int first_head, heads_at_once, tiles;
};

// From scores and the gradient of what was left of their softmax to what was left and the gradient of the scores, for
// rows [first, first + count) of a tile of so many; zero in what is there of the padding. By a warp, four columns a
// lane.
template <int kThreads>
__device__ void pass_rows(const Backward& a, const HeadOnDevice& head, int first, int count, int tile, float* softmax,
                          float* gradient, float* dots, int dot_stride) {
  const HeadsOnDevice& h = a.heads;
  const int lane = static_cast<int>(threadIdx.x) % 32, padded = round_up(head.columns, kScoreColumns);
  for (int i = static_cast<int>(threadIdx.x) / 32; i < tile; i += kThreads / 32) {
    float *p = softmax + i * a.pitch, *g = gradient + i * a.pitch;
    const bool is_there = i < count;
    const float logarithm = is_there ? a.sums[head.at_sum(h, first + i)] : 0;
    float dot = 0;
    for (int column = 4 * lane; column < padded; column += 128) {
      const float4 kept = head.drop_factors(h, first + i, column);
      float4 x = simt::load4(p + column), y = simt::load4(g + column);
      // What is dropped has a minus.
      const auto pass = [&](float& score, float& of_kept, float factor, int at) {
        const float probability = is_there && at < head.columns ? expf(h.scale * score - logarithm) : 0.0f;
        of_kept *= factor;
        dot += probability * of_kept;
        score = factor == 0 ? -probability : probability;
      };
      pass(x.x, y.x, kept.x, column);
      pass(x.y, y.y, kept.y, column + 1);
      pass(x.z, y.z, kept.z, column + 2);
      pass(x.w, y.w, kept.w, column + 3);
      simt::store4(p + column, x);
      simt::store4(g + column, y);
    }
    dot = sum_of_warp(dot);
    const float kept = 1.0f / (1.0f - h.rate);
    for (int column = 4 * lane; column < padded; column += 128) {
      float4 x = simt::load4(p + column), y = simt::load4(g + column);
      const auto pass = [&](float& signed_probability, float& of_kept) {
        of_kept = h.scale * (fabsf(signed_probability) * (of_kept - dot));
        signed_probability = __float_as_uint(signed_probability) >> 31 != 0 ? 0.0f : kept * signed_probability;
      };
      pass(x.x, y.x), pass(x.y, y.y), pass(x.z, y.z), pass(x.w, y.w);
      simt::store4(p + column, x);
      simt::store4(g + column, y);
    }
    if (dots != nullptr && is_there && lane == 0) dots[i * dot_stride] = dot;
  }
}

// Writes rows of a gradient, of which `count` are there.
struct GradientRows {
  float* first;
  int stride, count, width;
  bool by_four;

  __device__ void operator()(int i, int channel, float4 four) const {
    if (i < count) write_four(first + static_cast<std::int64_t>(i) * stride + channel, four, width - channel, by_four);
  }
};

// In this order the queries' gradient may lie over q or dy, and that of the values over v.
template <int kThreads>
__global__ __launch_bounds__(kThreads, kThreads == 128 ? 4 : 2) void attention_backward_kernel(Backward a) {
  constexpr int kRows = tile_rows(kThreads, kPer);
  SIMT_DYN_SHARED(float, softmax);
  const HeadsOnDevice& h = a.heads;
  const HeadOnDevice head(h, static_cast<int>(blockIdx.x) / h.heads, static_cast<int>(blockIdx.x) % h.heads);
  const int width = h.head_channels(), padded = round_up(h.rows, kRows);
  float *gradient = softmax + padded * a.pitch, *staged = gradient + padded * a.pitch;
  if (head.rows > 0) {
    const HeadRows dy = head.of_rows(h, a.dy), q = head.of_rows(h, a.q);
    const HeadRows k = head.of_columns(h, a.k), v = head.of_columns(h, a.v);
    score_product<kThreads, kPer>(q, k, width, h.by_four, staged,
                                  [&](int i, int j, float score) { softmax[i * a.pitch + j] = score; });
    score_product<kThreads, kPer>(dy, v, width, h.by_four, staged,
                                  [&](int i, int j, float value) { gradient[i * a.pitch + j] = value; });
    __syncthreads();
    pass_rows<kThreads>(a, head, 0, head.rows, round_up(head.rows, kRows), softmax, gradient, nullptr, 0);
    const auto rows_of = [&](float* tensor, int room, int count) {
      return GradientRows{tensor + head.at(h, room, 0), h.channels, count, width, h.by_four};
    };
    mix_product<kThreads, kPer, true>(softmax, a.pitch, head.columns, dy, width, h.by_four, staged,
                                      rows_of(a.dv, h.columns, head.columns));
    mix_product<kThreads, kPer, true>(gradient, a.pitch, head.columns, q, width, h.by_four, staged,
                                      rows_of(a.dk, h.columns, head.columns));
    mix_product<kThreads, kPer, false>(gradient, a.pitch, head.rows, k, width, h.by_four, staged,
                                       rows_of(a.dq, h.rows, head.rows));
  }
  clear_rows<kThreads>(h, head, a.dq, h.rows, head.rows, h.rows);
  clear_rows<kThreads>(h, head, a.dk, h.columns, head.columns, h.columns);
  clear_rows<kThreads>(h, head, a.dv, h.columns, head.columns, h.columns);
}

// Which tile of which head of which sentence a block has.
struct LongTask {
  HeadOnDevice head;
  int first;  // row or column
  std::int64_t slot;

  __device__ explicit LongTask(const Backward& a)
      : head(a.heads, static_cast<int>(blockIdx.x) / a.tiles / a.heads_at_once,
             a.first_head + static_cast<int>(blockIdx.x) / a.tiles % a.heads_at_once),
        first(static_cast<int>(blockIdx.x) % a.tiles * kLongRows),
        slot(static_cast<std::int64_t>(head.sentence) * a.heads.rows * a.heads_at_once + head.head - a.first_head) {}
  // Of a row, in `dots`, or in `waiting` where channels are counted.
  __device__ std::int64_t at(const Backward& a, int row) const {
    return slot + static_cast<std::int64_t>(row) * a.heads_at_once;
  }
};

// Of some rows: the sum that each row's gradient is lowered by, and the gradient of the queries.
__global__ __launch_bounds__(kLongThreads, 3) void attention_backward_rows_kernel(Backward a) {
  SIMT_DYN_SHARED(float, softmax);
  float *gradient = softmax + kLongRows * a.pitch, *staged = gradient + kLongRows * a.pitch;
  const HeadsOnDevice& h = a.heads;
  const LongTask task(a);
  const HeadOnDevice& head = task.head;
  const int width = h.head_channels(), count = min(kLongRows, head.rows - task.first);
  if (count <= 0) return;
  const HeadRows q{a.q + head.at(h, h.rows, task.first), h.channels, count};
  const HeadRows dy{a.dy + head.at(h, h.rows, task.first), h.channels, count};
  score_product<kLongThreads, 1>(q, head.of_columns(h, a.k), width, h.by_four, staged,
                                 [&](int i, int j, float score) { softmax[i * a.pitch + j] = score; });
  score_product<kLongThreads, 1>(dy, head.of_columns(h, a.v), width, h.by_four, staged,
                                 [&](int i, int j, float value) { gradient[i * a.pitch + j] = value; });
  __syncthreads();
  pass_rows<kLongThreads>(a, head, task.first, count, kLongRows, softmax, gradient, a.dots + task.at(a, task.first),
                          a.heads_at_once);
  mix_product<kLongThreads, 1, false>(
      gradient, a.pitch, count, head.of_columns(h, a.k), width, h.by_four, staged,
      GradientRows{a.waiting + task.at(a, task.first) * width, a.heads_at_once * width, count, width, h.by_four});
}

// Of some columns: what is left of their probabilities and the gradients of their scores, a line for each column, then
// the gradients of keys and values.
__global__ __launch_bounds__(kLongThreads, 3) void attention_backward_columns_kernel(Backward a) {
  SIMT_DYN_SHARED(float, softmax);
  float *gradient = softmax + kLongRows * a.pitch, *staged = gradient + kLongRows * a.pitch;
  const HeadsOnDevice& h = a.heads;
  const LongTask task(a);
  const HeadOnDevice& head = task.head;
  const int width = h.head_channels(), end = min(task.first + kLongRows, h.columns);
  const int count = max(min(end, head.columns) - task.first, 0);
  clear_rows<kLongThreads>(h, head, a.dk, h.columns, task.first + count, end);
  clear_rows<kLongThreads>(h, head, a.dv, h.columns, task.first + count, end);
  if (count == 0) return;
  const HeadRows k{a.k + head.at(h, h.columns, task.first), h.channels, count};
  const HeadRows v{a.v + head.at(h, h.columns, task.first), h.channels, count};
  score_product<kLongThreads, 1>(k, head.of_rows(h, a.q), width, h.by_four, staged,
                                 [&](int j, int i, float score) { softmax[j * a.pitch + i] = score; });
  score_product<kLongThreads, 1>(v, head.of_rows(h, a.dy), width, h.by_four, staged,
                                 [&](int j, int i, float value) { gradient[j * a.pitch + i] = value; });
  __syncthreads();
  const int padded = round_up(head.rows, kMixDepth);
  for (int item = static_cast<int>(threadIdx.x); item < padded * (kLongRows / 4); item += kLongThreads) {
    const int row = item % padded, column = item / padded * 4;
    const bool is_there = row < head.rows;
    const float logarithm = is_there ? a.sums[head.at_sum(h, row)] : 0, dot = is_there ? a.dots[task.at(a, row)] : 0;
    const float4 kept = head.drop_factors(h, row, task.first + column);
    const auto pass = [&](int j, float factor) {
      float *p = softmax + (column + j) * a.pitch + row, *g = gradient + (column + j) * a.pitch + row;
      const float probability = is_there && column + j < count ? expf(h.scale * *p - logarithm) : 0.0f;
      *g = h.scale * (probability * (factor * *g - dot));
      *p = factor * probability;
    };
    pass(0, kept.x), pass(1, kept.y), pass(2, kept.z), pass(3, kept.w);
  }
  const auto rows_of = [&](float* tensor) {
    return GradientRows{tensor + head.at(h, h.columns, task.first), h.channels, count, width, h.by_four};
  };
  mix_product<kLongThreads, 1, false>(softmax, a.pitch, count, head.of_rows(h, a.dy), width, h.by_four, staged,
                                      rows_of(a.dv));
  mix_product<kLongThreads, 1, false>(gradient, a.pitch, count, head.of_rows(h, a.q), width, h.by_four, staged,
                                      rows_of(a.dk));
}

// The queries' gradient to its place, zero in the padding.
__global__ void attention_place_kernel(Backward a, std::int64_t n) {
  const std::int64_t i = global_thread();
  if (i >= n) return;
  const HeadsOnDevice& h = a.heads;
  const int width = a.heads_at_once * h.head_channels(), channel = static_cast<int>(i % width);
  const std::int64_t line = i / width;
  const auto sentence = static_cast<int>(line / h.rows), row = static_cast<int>(line % h.rows);
  const HeadOnDevice head(h, sentence, a.first_head);
  a.dq[head.at(h, h.rows, row) + channel] = row < head.rows ? a.waiting[i] : 0.0f;
}

struct BackwardPlan {
  int threads, padded_rows, pitch;
  bool is_long;
  std::int64_t heads_at_once;
  Bytes dots, workspace;  // where the dots begin, behind what waits

  static BackwardPlan of(const OpShape& shape) {
    const std::vector<std::int64_t>& q = shape.inputs[kQ].shape;
    const auto rows = static_cast<int>(q[1]), columns = static_cast<int>(shape.inputs[kK].shape[1]);
    BackwardPlan plan{};
    plan.threads = rows > 32 || columns > 32 ? 256 : 128;
    const int tile = tile_rows(plan.threads, kPer);
    plan.padded_rows = round_up(rows, tile);
    plan.pitch = round_up(columns, std::max(tile, kScoreColumns)) + 4;  // whole tiles are read
    plan.is_long = plan.shared_bytes() > kMostShared;
    if (!plan.is_long) return plan;
    plan.pitch = round_up(std::max(rows, columns), kScoreColumns) + 4;
    plan.heads_at_once = heads_of(shape.attributes);
    plan.dots = align_up(
        Bytes{4 * q[0] * q[1] * (q[2] / int_attribute(shape.attributes, "heads")) * plan.heads_at_once}, kAlignment);
    plan.workspace = plan.dots + Bytes{4 * q[0] * q[1] * plan.heads_at_once};
    return plan;
  }
  static std::int64_t heads_of(const Attributes& attributes) {
    return attributes.count(kHeadsAtOnce) != 0 ? int_attribute(attributes, kHeadsAtOnce) : 1;
  }
  int shared_bytes() const { return 4 * (2 * padded_rows * pitch + staged_floats(tile_rows(threads, kPer))); }
  int long_shared_bytes() const { return 4 * (2 * kLongRows * pitch + staged_floats(kLongRows)); }
};

void run_long(const BackwardPlan& plan, Backward a, cudaStream_t stream) {
  const HeadsOnDevice& h = a.heads;
  const auto shared = static_cast<std::size_t>(plan.long_shared_bytes());
  const std::int64_t most = plan.heads_at_once;
  for (std::int64_t first = 0; first < h.heads; first += most) {
    a.first_head = static_cast<int>(first);
    a.heads_at_once = static_cast<int>(std::min(most, h.heads - first));
    const std::int64_t tasks = static_cast<std::int64_t>(h.sentences) * a.heads_at_once;
    a.tiles = (h.rows + kLongRows - 1) / kLongRows;
    simt::launch(attention_backward_rows_kernel, tasks * a.tiles, kLongThreads, shared, stream, a);
    a.tiles = (h.columns + kLongRows - 1) / kLongRows;
    simt::launch(attention_backward_columns_kernel, tasks * a.tiles, kLongThreads, shared, stream, a);
    const std::int64_t n = tasks * h.rows * h.head_channels();
    simt::launch(attention_place_kernel, blocks_for(n), kBlock, 0, stream, a, n);
  }
}

void backward(const OpShape& shape, const KernelArguments& arguments) {
  const BackwardPlan plan = BackwardPlan::of(shape);
  Backward a{};
  a.heads = HeadsOnDevice::of(shape, arguments, shape.inputs[kQ], shape.inputs[kK].shape[1], kRowLengths);
  a.dy = floats(arguments.inputs[kDy]), a.q = floats(arguments.inputs[kQ]);
  a.k = floats(arguments.inputs[kK]), a.v = floats(arguments.inputs[kV]);
  a.sums = floats(arguments.inputs[kSums]);
  a.dq = floats(arguments.outputs[0]), a.dk = floats(arguments.outputs[1]), a.dv = floats(arguments.outputs[2]);
  a.heads.look_at({a.dy, a.q, a.k, a.v, a.dq, a.dk, a.dv});
  a.pitch = plan.pitch;
  if (plan.is_long) {
    a.waiting = floats(arguments.workspace);
    a.dots = floats(arguments.workspace + plan.dots.value);
    run_long(plan, a, stream_of(arguments));
    return;
  }
  const std::int64_t tasks = static_cast<std::int64_t>(a.heads.sentences) * a.heads.heads;
  simt::launch(plan.threads == 128 ? attention_backward_kernel<128> : attention_backward_kernel<256>, tasks,
               plan.threads, static_cast<std::size_t>(plan.shared_bytes()), stream_of(arguments), a);
}

// More heads in a launch, where they have one.
std::vector<Attributes> more_heads_at_once(const OpShape& shape) {
  std::vector<Attributes> more;
  if (!BackwardPlan::of(shape).is_long) return more;
  const std::int64_t all = int_attribute(shape.attributes, "heads");
  for (std::int64_t heads = BackwardPlan::heads_of(shape.attributes); heads < all;) {
    heads = std::min(2 * heads, all);
    more.push_back(shape.attributes);
    more.back()[kHeadsAtOnce] = heads;
  }
  return more;
}

// Seven products, three launches for some heads; else five products, one launch.
OpCost cost(const OpShape& shape) {
  const BackwardPlan plan = BackwardPlan::of(shape);
  const TensorType& q = shape.inputs[kQ];
  OpCost total = bytes_moved(shape);
  const double product = 2 * static_cast<double>(element_count(q)) * static_cast<double>(shape.inputs[kK].shape[1]);
  total.flops = (plan.is_long ? 7 : 5) * product;
  if (!plan.is_long) return total;
  const std::int64_t heads = int_attribute(shape.attributes, "heads");
  const auto rounds = static_cast<double>((heads + plan.heads_at_once - 1) / plan.heads_at_once);
  total.launches += 3 * rounds;
  return total;
}

}  // namespace

void register_attention_backward_cuda(OpRegistry& registry) {
  registry.add_kernels("attention_backward", kCudaBackend,
                       {.workspace = [](const OpShape& s) { return BackwardPlan::of(s).workspace; },
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); },
                        .faster = more_heads_at_once,
                        .cost = cost});
}

}  // namespace thimble
