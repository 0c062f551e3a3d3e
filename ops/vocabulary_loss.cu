// The vocabulary loss on CUDA: a slice is so many rows of the batch one after the other, those of the padding with
// them, since lengths are not known here. These have logits that nobody reads, gradients of zero and a loss of zero.
#include "vocabulary_loss.h"

#include <numeric>

#include "accumulation_cuda.h"
#include "matrix_product_cuda.h"

namespace thimble {
namespace {

using namespace vocabulary_loss;

constexpr Bytes kMostOfProducts{2 << 20};
constexpr std::int64_t kLargestSlice = 4096;
constexpr int kWarps = kBlock / 32;

// Which rows of the batch are tokens.
struct TokenRows {
  const std::int32_t* lengths;
  int room;

  __device__ bool is_token(int row) const { return row % room < lengths[row / room]; }
};

__global__ void gather_kernel(const float* x, TokenRows tokens, int first, int channels, float* to, int n) {
  const int i = static_cast<int>(global_thread());
  if (i < n) to[i] = tokens.is_token(first + i / channels) ? x[i] : 0.0f;
}

__global__ void gather_four_kernel(const float* x, TokenRows tokens, int first, int channels, float* to, int fours) {
  const int i = static_cast<int>(global_thread());
  if (i >= fours) return;
  const bool is_token = tokens.is_token(first + 4 * i / channels);
  simt::store4(to + 4 * i, is_token ? simt::load4(x + 4 * i) : make_float4(0, 0, 0, 0));
}

// Of some of a row's logits.
struct RowSums {
  float largest;
  float exponentials;  // sum of e^(x - largest)
  double all;          // sum of x

  __device__ static float factor(float from, float to) { return from == to ? 1.0f : expf(from - to); }
  __device__ void raise(float to) {
    if (!(to > largest)) return;
    exponentials *= factor(largest, to);
    largest = to;
  }
  __device__ void add(float x) {
    raise(x);
    exponentials += expf(x - largest);
    all += static_cast<double>(x);
  }
  __device__ void add(const RowSums& other) {
    const float together = max(largest, other.largest);
    exponentials = exponentials * factor(largest, together) + other.exponentials * factor(other.largest, together);
    largest = together;
    all += other.all;
  }
};

// The sums of the block's row, in every thread.
__device__ RowSums of_block(RowSums sums) {
  SIMT_SHARED(RowSums, of_warps, [kWarps]);
  for (int distance = 16; distance > 0; distance /= 2) {
    sums.add(RowSums{__shfl_xor_sync(0xffffffffU, sums.largest, distance),
                     __shfl_xor_sync(0xffffffffU, sums.exponentials, distance),
                     __shfl_xor_sync(0xffffffffU, sums.all, distance)});
  }
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sums;
  __syncthreads();
  sums = of_warps[0];
  for (int w = 1; w < kWarps; ++w) sums.add(of_warps[w]);
  return sums;
}

struct LossRows {
  TokenRows tokens;
  const std::int32_t* targets;
  const StepScalars* scalars;
  float* logits;
  int pitch, vocabulary, first;  // of the batch's rows, the slice's first
  double *loss, *nll;            // one for every row of the batch
  double smoothing;
};

// A block a row: its loss, and from its logits their gradient. A target outside of the vocabulary has a loss that is
// NaN.
template <bool kMakesGradients>
__global__ __launch_bounds__(kBlock) void loss_kernel(LossRows a) {
  const int row = a.first + static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int vocabulary = a.vocabulary, fours = vocabulary / 4;
  float* logits = a.logits + static_cast<std::int64_t>(blockIdx.x) * a.pitch;
  if (!a.tokens.is_token(row)) {
    if (thread == 0) a.loss[row] = a.nll[row] = 0;
    if constexpr (kMakesGradients)
      for (int i = thread; i < vocabulary; i += kBlock) logits[i] = 0;
    return;
  }
  const int target = a.targets[row];
  double own = NAN;
  if (thread == 0 && target >= 0 && target < vocabulary) own = static_cast<double>(logits[target]);

  RowSums sums{-INFINITY, 0, 0};
  for (int i = thread; i < fours; i += kBlock) {
    const float4 x = simt::load4(logits + 4 * i);
    sums.raise(max(max(x.x, x.y), max(x.z, x.w)));
    sums.exponentials +=
        expf(x.x - sums.largest) + expf(x.y - sums.largest) + (expf(x.z - sums.largest) + expf(x.w - sums.largest));
    sums.all +=
        static_cast<double>(x.x) + static_cast<double>(x.y) + (static_cast<double>(x.z) + static_cast<double>(x.w));
  }
  if (4 * fours + thread < vocabulary) sums.add(logits[4 * fours + thread]);
  sums = of_block(sums);

  if (thread == 0) {
    const double mean = sums.all / vocabulary;
    const double logarithm = static_cast<double>(sums.largest) + log(static_cast<double>(sums.exponentials));
    a.nll[row] = logarithm - own;
    a.loss[row] = (1 - a.smoothing) * (logarithm - own) + a.smoothing * (logarithm - mean);
  }
  if constexpr (!kMakesGradients) return;
  const double share = 1 / static_cast<double>(a.scalars->loss_terms);
  const auto factor = static_cast<float>(share / static_cast<double>(sums.exponentials));
  const auto less = static_cast<float>(share * a.smoothing / vocabulary);
  const auto of_target = static_cast<float>(share * (1 - a.smoothing));
  const auto gradient = [&](float x, int i) {
    const float all = factor * expf(x - sums.largest) - less;
    return i == target ? all - of_target : all;
  };
  for (int i = thread; i < fours; i += kBlock) {
    const float4 x = simt::load4(logits + 4 * i);
    simt::store4(logits + 4 * i, make_float4(gradient(x.x, 4 * i), gradient(x.y, 4 * i + 1), gradient(x.z, 4 * i + 2),
                                             gradient(x.w, 4 * i + 3)));
  }
  if (const int i = 4 * fours + thread; i < vocabulary) logits[i] = gradient(logits[i], i);
}

// The means: a thread adds every kBlock-th row, then the threads' sums are added in pairs.
__global__ void mean_loss_kernel(const double* loss, const double* nll, int rows, const StepScalars* scalars,
                                 float* mean_loss, float* mean_nll) {
  SIMT_SHARED(double, sums, [2][kBlock]);
  const int thread = static_cast<int>(threadIdx.x);
  double of_loss = 0, of_nll = 0;
  for (int row = thread; row < rows; row += kBlock) of_loss += loss[row], of_nll += nll[row];
  sums[0][thread] = of_loss;
  sums[1][thread] = of_nll;
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
    sums[0][thread] += sums[0][thread + half];
    sums[1][thread] += sums[1][thread + half];
  }
  if (thread != 0) return;
  const auto terms = static_cast<double>(scalars->loss_terms);
  *mean_loss = static_cast<float>(sums[0][0] / terms);
  *mean_nll = static_cast<float>(sums[1][0] / terms);
}

// What lies in the workspace. Rows of logits begin at multiples of 16 bytes.
struct Places {
  std::int64_t rows, pitch;
  Bytes logits, inputs, products, all;  // where each begins, behind two doubles for every row

  static Places of(const LossSizes& s, bool makes_gradients, Bytes of_products) {
    Places places{};
    places.rows = s.sentences * s.room;
    places.pitch = (s.vocabulary + 3) / 4 * 4;
    places.logits = align_up(Bytes{16 * places.rows}, kAlignment);
    places.inputs = places.logits + align_up(Bytes{4 * s.slice * places.pitch}, kAlignment);
    places.products =
        places.inputs + (makes_gradients ? align_up(Bytes{4 * s.slice * s.channels}, kAlignment) : Bytes{});
    places.all = places.products + of_products;
    return places;
  }
};

// The products of a slice of `rows` rows.
struct SliceProducts {
  DeviceProduct logits, weights_gradient, input_gradient;

  static SliceProducts of(const OpShape& shape, std::int64_t rows) {
    const LossSizes s = LossSizes::of(shape);
    const bool makes_gradients = flag(shape.attributes, "gradients");
    const std::int64_t of_slice = std::gcd(kAlignment.value, 4 * s.slice * s.channels);
    const std::int64_t of_x = std::gcd(alignment_of(shape.inputs[kX]), of_slice);
    const DeviceMatrix made{.stride = (s.vocabulary + 3) / 4 * 4, .alignment = 16};
    const DeviceMatrix read{.stride = s.channels, .alignment = makes_gradients ? kAlignment.value : of_x};
    const DeviceMatrix weights{.stride = s.channels, .alignment = kAlignment.value};
    const auto transposed = [](DeviceMatrix matrix) {
      matrix.transposed = true;
      return matrix;
    };
    return {.logits = {.sizes = {rows, s.vocabulary, s.channels},
                       .a = read,
                       .b = transposed(weights),
                       .c = made,
                       .most_workspace = kMostOfProducts},
            .weights_gradient = {.sizes = {s.vocabulary, s.channels, rows},
                                 .a = transposed(made),
                                 .b = read,
                                 .c = weights,
                                 .most_workspace = kMostOfProducts},
            .input_gradient = {.sizes = {rows, s.channels, s.vocabulary},
                               .a = made,
                               .b = weights,
                               .c = {.stride = s.channels, .alignment = of_x},
                               .most_workspace = kMostOfProducts}};
  }

  Bytes workspace(bool makes_gradients) const {
    const Bytes of_logits = product_workspace(logits);
    if (!makes_gradients) return of_logits;
    return std::max({of_logits, product_workspace(weights_gradient), product_workspace(input_gradient)});
  }
};

// Whole slices, then one of what is left.
std::vector<std::int64_t> slice_sizes(const LossSizes& s) {
  const std::int64_t rows = s.sentences * s.room;
  std::vector<std::int64_t> sizes{s.slice};
  if (rows % s.slice != 0) sizes.push_back(rows % s.slice);
  return sizes;
}

Places places_of(const OpShape& shape) {
  const LossSizes sizes = LossSizes::of(shape);
  const bool makes_gradients = flag(shape.attributes, "gradients");
  Bytes of_products;
  for (std::int64_t rows : slice_sizes(sizes))
    of_products = std::max(of_products, SliceProducts::of(shape, rows).workspace(makes_gradients));
  return Places::of(sizes, makes_gradients, of_products);
}

class VocabularyLossKernel final : public Kernel {
 public:
  explicit VocabularyLossKernel(const OpShape& shape)
      : shape_(shape),
        sizes_(LossSizes::of(shape)),
        places_(places_of(shape)),
        smoothing_(real_attribute(shape.attributes, "smoothing")),
        makes_gradients_(flag(shape.attributes, "gradients")) {
    for (std::int64_t rows : slice_sizes(sizes_)) {
      const SliceProducts products = SliceProducts::of(shape, rows);
      prepared_.push_back({prepare_product(products.logits, shape.device),
                           makes_gradients_ ? prepare_product(products.weights_gradient, shape.device) : nullptr,
                           makes_gradients_ ? prepare_product(products.input_gradient, shape.device) : nullptr});
    }
  }

  void run(const KernelArguments& a) override {
    bool has_begun = makes_gradients_ && launch_adds_to_output(shape_, a, kWeightsGradient);
    for (std::int64_t first = 0; first < places_.rows; first += sizes_.slice) {
      run_slice(a, first, std::min(sizes_.slice, places_.rows - first), has_begun);
      has_begun = true;
    }
    simt::launch(mean_loss_kernel, 1, kBlock, 0, stream_of(a), row_losses(a), row_losses(a) + places_.rows,
                 static_cast<int>(places_.rows), a.scalars, floats(a.outputs[kLoss]), floats(a.outputs[kNll]));
  }

 private:
  struct Prepared {
    std::unique_ptr<PreparedProduct> logits, weights_gradient, input_gradient;
  };

  double* row_losses(const KernelArguments& a) const { return reinterpret_cast<double*>(a.workspace); }
  TokenRows tokens(const KernelArguments& a) const { return {ints(a.inputs[kLengths]), static_cast<int>(sizes_.room)}; }

  // The weights' gradient before the input's, which may lie over the input.
  void run_slice(const KernelArguments& a, std::int64_t first, std::int64_t rows, bool has_begun) {
    const Prepared& products = prepared_[rows == sizes_.slice ? 0 : 1];
    const float* weights = floats(a.inputs[kWeights]);
    const float* x = floats(a.inputs[kX]) + first * sizes_.channels;
    float* logits = floats(a.workspace + places_.logits.value);
    std::byte* of_products = a.workspace + places_.products.value;
    if (makes_gradients_) {
      float* gathered = floats(a.workspace + places_.inputs.value);
      gather(a, x, first, rows, gathered);
      x = gathered;
    }
    products.logits->run({.a = x, .b = weights, .c = logits, .workspace = of_products, .stream = a.stream});
    simt::launch(makes_gradients_ ? loss_kernel<true> : loss_kernel<false>, rows, kBlock, 0, stream_of(a),
                 {.tokens = tokens(a),
                  .targets = ints(a.inputs[kTargets]),
                  .scalars = a.scalars,
                  .logits = logits,
                  .pitch = static_cast<int>(places_.pitch),
                  .vocabulary = static_cast<int>(sizes_.vocabulary),
                  .first = static_cast<int>(first),
                  .loss = row_losses(a),
                  .nll = row_losses(a) + places_.rows,
                  .smoothing = smoothing_});
    if (!makes_gradients_) return;
    products.weights_gradient->run({.a = logits,
                                    .b = x,
                                    .c = floats(a.outputs[kWeightsGradient]),
                                    .adds = has_begun,
                                    .workspace = of_products,
                                    .stream = a.stream});
    products.input_gradient->run({.a = logits,
                                  .b = weights,
                                  .c = floats(a.outputs[kInputGradient]) + first * sizes_.channels,
                                  .workspace = of_products,
                                  .stream = a.stream});
  }

  void gather(const KernelArguments& a, const float* x, std::int64_t first, std::int64_t rows, float* to) const {
    const std::int64_t n = rows * sizes_.channels;
    const bool by_four = sizes_.channels % 4 == 0 && reinterpret_cast<std::uintptr_t>(x) % sizeof(float4) == 0;
    const std::int64_t items = by_four ? n / 4 : n;
    simt::launch(by_four ? gather_four_kernel : gather_kernel, blocks_for(items), kBlock, 0, stream_of(a), x, tokens(a),
                 static_cast<int>(first), static_cast<int>(sizes_.channels), to, static_cast<int>(items));
  }

  OpShape shape_;
  LossSizes sizes_;
  Places places_;
  double smoothing_;
  bool makes_gradients_;
  std::vector<Prepared> prepared_;  // of a whole slice, and of what is left
};

// Each slice reads the weights, in training twice, and adds to their gradient; its launches leave the device idle.
OpCost cost(const OpShape& shape) {
  const LossSizes s = LossSizes::of(shape);
  const bool makes_gradients = flag(shape.attributes, "gradients");
  const std::int64_t rows = s.sentences * s.room;
  OpCost total = bytes_moved(shape);
  const double of_weights = static_cast<double>(bytes_of(shape.inputs[kWeights]).value);
  for (std::int64_t size : slice_sizes(s)) {
    const double slices = static_cast<double>(size == s.slice ? rows / s.slice : 1);
    const SliceProducts products = SliceProducts::of(shape, size);
    std::vector<OpCost> costs{product_cost(products.logits)};
    if (makes_gradients) {
      costs.push_back(product_cost(products.weights_gradient));
      costs.push_back(product_cost(products.input_gradient));
    }
    for (const OpCost& one : costs) {
      total.flops += slices * one.flops;
      total.idle_flops += slices * one.idle_flops;
      total.launches += slices;
      total.bytes += slices * one.bytes;
    }
    total.bytes += slices * of_weights * (makes_gradients ? 4 : 1);
  }
  return total;
}

std::vector<Attributes> larger_slices(const OpShape& shape) {
  std::vector<Attributes> larger;
  const LossSizes sizes = LossSizes::of(shape);
  const std::int64_t most = std::min(sizes.sentences * sizes.room, kLargestSlice);
  for (std::int64_t slice = sizes.slice; slice < most;) {
    slice = std::min(2 * slice, most);
    larger.push_back(shape.attributes);
    larger.back()["slice"] = slice;
  }
  return larger;
}

}  // namespace

void register_vocabulary_loss_cuda(OpRegistry& registry) {
  registry.add_kernels(kKind, kCudaBackend,
                       {.workspace = [](const OpShape& s) { return places_of(s).all; },
                        .make_kernel = [](const OpShape& s) { return std::make_unique<VocabularyLossKernel>(s); },
                        .faster = larger_slices,
                        .cost = cost});
}

}  // namespace thimble
